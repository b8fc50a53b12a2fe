package app

import (
	"bytes"
	"context"
	"log" //nolint:depguard // net/http and promhttp log through it; its output goes to zerolog
	"os"
	"regexp"
	"sync"

	"github.com/rs/zerolog"

	"github.com/callmask/callmask/internal/tracing"
)

// trace sends spans of the cold paths where the OTEL_* variables say.
func (a *App) trace(ctx context.Context) error {
	log := a.log.With().Str("room", "tracing").Logger()
	var err error
	if a.tracer, err = tracing.FromEnv(ctx, os.LookupEnv, string(a.cfg.Role), log); err != nil {
		return err
	}
	a.onEnd("tracing", func(ctx context.Context) error {
		if err := a.tracer.Close(ctx); err != nil {
			log.Warn().Err(err).Msg("the last spans could not be sent") // no reason to end otherwise than well
		}
		return nil
	})
	return nil
}

// part is something that /readyz looks at.
type part struct {
	name   string
	check  func(context.Context) error
	needed bool
}

// parts grows while the App starts, and /readyz reads it meanwhile.
type parts struct {
	mu  sync.Mutex
	all []part
}

func (p *parts) add(x part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, x)
}

func (p *parts) list() []part {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]part(nil), p.all...)
}

// stdLog gives a library that knows only the standard logger our log: masked, because
// what a library prints may repeat a request.
func (a *App) stdLog(room string) *log.Logger {
	return log.New(&MaskedLog{Logger: a.log.With().Str("room", room).Logger()}, "", 0)
}

// MaskedLog writes each line of a library's own log at debug level, with everything
// that could be a telephone number masked.
type MaskedLog struct{ Logger zerolog.Logger }

// numbers matches what could be a telephone number, also with separators.
var numbers = regexp.MustCompile(`\+?\d(?:[ ().-]?\d){6,}`)

// Write implements io.Writer for one line.
func (m *MaskedLog) Write(p []byte) (int, error) {
	m.Logger.Debug().Msg(numbers.ReplaceAllString(string(bytes.TrimSpace(p)), "•••"))
	return len(p), nil
}

// Printf implements go-redis's logger.
func (m *MaskedLog) Printf(_ context.Context, format string, v ...any) {
	_, _ = m.Write(appendf(format, v...)) // it never fails
}
