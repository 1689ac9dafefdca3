package recipe

// CompatVersion is the release of diskimage-builder whose contract a recipe
// follows. Commands under its names report it, because scripts compare it.
const CompatVersion = "3.42.0"
