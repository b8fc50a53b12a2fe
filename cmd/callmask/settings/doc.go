// Package settings reads, checks and prints callmask's settings.
//
//	flag ─▶ environment ─▶ callmask.yaml ─▶ default
//	             │
//	             ▼
//	  Load ─▶ Settings ─▶ Check(role) ─▶ the services' configurations
//	             └──────▶ Print: what is in force, secrets hidden
//
// Every error is one line that names the setting the way its author wrote it:
// CALLMASK_HTTP_ADDR, --http-addr or callmask.yaml:12: pools[0].cooldown. No error
// repeats a secret.
package settings
