package router

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
)

// idleWorker is how long fasthttp keeps a goroutine for the next connection, and
// how long its housekeeping outlives the server.
const idleWorker = 200 * time.Millisecond

// newServer makes the HTTP server with its limits; those of time are the listener's.
func (r *Router) newServer() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:       r.handle,
		ErrorHandler:  r.handleError,
		ExpectHandler: r.expect,
		Logger:        quietLogger{r.sampled},

		Concurrency:           r.cfg.MaxConns,
		ReadBufferSize:        r.cfg.HeaderBuffer,
		MaxRequestBodySize:    r.cfg.MaxBody,
		MaxIdleWorkerDuration: idleWorker,

		LazyRequestTime:              true,
		DisablePreParseMultipartForm: true, // it would write files
		SecureErrorLogMessage:        true,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		CloseOnShutdown:              true,
	}
}

// handleError answers what fasthttp could not read as a request, and closes.
func (r *Router) handleError(ctx *fasthttp.RequestCtx, err error) {
	why := classify(err)
	if c, ok := ctx.Conn().(*conn); ok && (why == bodyTooLarge || why == headerTooLarge) {
		c.linger.Store(true)
	}
	r.turnAway(ctx, why)
}

// expect answers "Expect: 100-continue" of a body that is too large before it is sent.
func (r *Router) expect(ctx *fasthttp.RequestCtx) int {
	if ctx.Request.Header.ContentLength() > r.cfg.MaxBody {
		return fasthttp.StatusRequestEntityTooLarge
	}
	return fasthttp.StatusContinue
}

// classify names an error of fasthttp without its text, which holds request bytes.
func classify(err error) turnedAway {
	var small *fasthttp.ErrSmallBuffer
	var netErr net.Error
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		return bodyTooLarge
	case errors.As(err, &small):
		return headerTooLarge
	case errors.As(err, &netErr) && netErr.Timeout():
		return timedOut
	default:
		return malformed
	}
}

// quietLogger takes fasthttp's own log lines. Of their arguments, which hold
// request bytes and so perhaps a number, it logs none but the kind of an error;
// the format itself is fixed text.
type quietLogger struct{ log zerolog.Logger }

// Printf implements fasthttp.Logger.
func (l quietLogger) Printf(format string, args ...any) {
	event := l.log.Warn().Str("format", format)
	for _, a := range args {
		err, ok := a.(error)
		if !ok {
			continue
		}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
			event.Str("cause", "disconnected")
		default:
			event.Stringer("cause", classify(err))
		}
	}
	event.Msg("router: fasthttp")
}
