package buildlist

import (
	"bytes"
	"encoding/json"
)

// schema is the part of JSON Schema, draft 2020-12, that is needed here.
type schema struct {
	Schema        string       `json:"$schema,omitempty"`
	Title         string       `json:"title,omitempty"`
	Description   string       `json:"description,omitempty"`
	Type          any          `json:"type,omitempty"`
	Enum          []string     `json:"enum,omitempty"`
	Pattern       string       `json:"pattern,omitempty"`
	Minimum       *int64       `json:"minimum,omitempty"`
	ExclusiveMin  *int64       `json:"exclusiveMinimum,omitempty"`
	Maximum       *int64       `json:"maximum,omitempty"`
	Items         *schema      `json:"items,omitempty"`
	PropertyNames *schema      `json:"propertyNames,omitempty"`
	Properties    propertyList `json:"properties,omitempty"`
	Additional    any          `json:"additionalProperties,omitempty"` // false, or a *schema
}

// propertyList is an object in the order of the table of keys.
type propertyList []property

type property struct {
	name   string
	schema *schema
}

func (l propertyList) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(p.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(p.schema)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Strings reach programs as arguments and variables, which cannot have NUL
// bytes, and names of variables no "=" either.
const (
	textPattern = `^[^\x00]*$`
	namePattern = `^[^=\x00]+$`
)

func textSchema() *schema { return &schema{Type: "string", Pattern: textPattern} }

// schema is what a value of the key must look like.
func (k key) schema() *schema {
	s := &schema{Type: "string"}
	least, zero, most := int64(1), int64(0), int64(maxNumber)
	switch k.kind {
	case kindText:
		s = textSchema()
	case kindChoice:
		s.Enum = k.choices
	case kindFlag:
		s.Type = "boolean"
	case kindLevel:
		s.Type, s.Minimum, s.Maximum = "integer", &zero, &k.max
	case kindInteger:
		s.Type, s.Minimum, s.Maximum = "integer", &least, &most
	case kindNumber:
		s.Type, s.ExclusiveMin, s.Maximum = "number", &zero, &most
	case kindTextList:
		s.Type, s.Items = "array", textSchema()
		if len(k.choices) > 0 {
			s.Items = &schema{Type: "string", Enum: k.choices}
		}
	case kindTextMap:
		s.Type, s.Additional, s.PropertyNames = "object", textSchema(), &schema{Pattern: namePattern}
	}
	s.Description = k.help
	return s
}

// Schema is the JSON Schema of the files that Read reads.
func Schema(opts Options) ([]byte, error) {
	entry := &schema{Type: "object", Additional: false, Description: "An image, or more about one: entries of the same imagename are merged."}
	for _, k := range keyTable(opts.Types) {
		entry.Properties = append(entry.Properties, property{k.name, k.schema()})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(&schema{
		Schema:      "https://json-schema.org/draft/2020-12/schema",
		Title:       "diskimage-builder images",
		Description: "Images to build with diskimage-builder, in YAML 1.1.",
		Type:        []string{"array", "null"}, // an empty file is an empty list
		Items:       entry,
	})
	return b.Bytes(), err
}
