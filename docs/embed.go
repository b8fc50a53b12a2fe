// Package docs holds the documents that programs read too.
package docs

import _ "embed" // asyncapi.yaml

// AsyncAPI describes every message that callmask publishes or takes, AsyncAPI 3 in YAML.
//
//go:embed asyncapi.yaml
var AsyncAPI string
