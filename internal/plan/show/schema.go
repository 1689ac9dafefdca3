package show

import _ "embed" // for Schema

// Schema is the JSON Schema (draft 2020-12) of Document.
//
//go:embed plan.schema.json
var Schema string
