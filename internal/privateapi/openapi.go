package privateapi

import _ "embed" // openapi.json

// OpenAPI describes the private API. The tag of an operation is the role that serves it.
//
//go:embed openapi.json
var OpenAPI string
