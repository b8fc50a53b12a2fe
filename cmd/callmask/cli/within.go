package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/events"
)

// within returns a context that ends after limit, or when the person at the terminal or the
// system wants the command to end.
func within(limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	return ctx, func() {
		cancel()
		stop()
	}
}

// connectNATS connects to the NATS that the settings name, or to the one that `all` runs here.
func connectNATS(ctx context.Context, s *settings.Settings, name string) (*events.Bus, error) {
	cfg := app.NATSConfig(s)
	cfg.Name = name
	bus, err := events.Connect(ctx, cfg)
	if err != nil {
		return nil, app.NATSError(err)
	}
	return bus, nil
}
