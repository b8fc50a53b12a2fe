package router

import (
	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

// ProgressCodec is a Codec whose carrier tells what became of a call. A carrier without
// it has no /status.
type ProgressCodec interface {
	// DecodeProgress authenticates the request first and then reads it into p, which
	// comes zeroed. known is false for what is authentic and says nothing that a
	// vn.Progress can hold. Errors are those of Codec.Decode.
	DecodeProgress(ctx *fasthttp.RequestCtx, secret []byte, p *vn.Progress) (known bool, err error)
	// AppendProgressAnswer appends what the carrier wants to hear, and returns it with
	// its content type. The status is 200.
	AppendProgressAnswer(dst []byte) (body []byte, contentType string)
}

// serveProgress takes a carrier's callback about a call. It asks nobody: the recorder
// publishes it, and who reads the events puts them together.
func (r *Router) serveProgress(ctx *fasthttp.RequestCtx, c *carrier, secret []byte, s *state) {
	codec, ok := c.Codec.(ProgressCodec)
	if !ok {
		r.refuseUnsupported(ctx, c, secret, s)
		return
	}
	p := &s.progress
	known, err := codec.DecodeProgress(ctx, secret, p)
	if !r.authentic(ctx, c, err) {
		return
	}
	body, contentType := codec.AppendProgressAnswer(s.answer[:0])
	respond(ctx, s, body, contentType, fasthttp.StatusOK)
	if !known {
		return
	}
	c.progress[p.Leg][p.Status].Inc()
	if r.recorder != nil {
		r.recorder.Progress(c.Name, p)
	}
}
