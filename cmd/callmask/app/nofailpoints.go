//go:build !failpoints

package app

import (
	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/scripts"
)

// failing is where the fault tests' build puts its failpoints; see failpoints.go.
func (a *App) failing() (*scripts.Store, *events.Bus) { return a.store, a.bus }
