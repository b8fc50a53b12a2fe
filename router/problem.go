package router

import (
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/callmask/callmask/vn"
)

const problemType = "application/problem+json"

// problem is an RFC 9457 answer. Its text is fixed: it repeats nothing of a request.
type problem struct {
	status int
	body   []byte
}

func newProblem(status int, code, detail string) problem {
	body := appendProblem(nil, status, code)
	body = appendString(append(body, `,"detail":`...), detail)
	return problem{status: status, body: append(body, '}')}
}

func (p *problem) write(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(p.status)
	ctx.Response.Header.SetContentType(problemType)
	ctx.Response.SetBodyRaw(p.body)
}

// writeFieldProblem answers 400 and names the field, which a codec writes itself:
// never a value of the request.
func writeFieldProblem(ctx *fasthttp.RequestCtx, e *vn.FieldError) {
	body := appendProblem(nil, fasthttp.StatusBadRequest, "invalid")
	body = appendString(append(body, `,"field":`...), e.Field)
	body = appendString(append(body, `,"detail":`...), e.Error())
	(&problem{status: fasthttp.StatusBadRequest, body: append(body, '}')}).write(ctx)
}

func appendProblem(dst []byte, status int, code string) []byte {
	dst = append(dst, `{"type":"about:blank","title":`...)
	dst = appendString(dst, fasthttp.StatusMessage(status))
	dst = append(dst, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	return appendString(append(dst, `,"code":`...), code)
}

// appendString appends s as a JSON string (RFC 8259 section 7).
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, string(c)...)
		}
	}
	return append(dst, '"')
}

// turnedAway says why a request was answered before any carrier was asked.
type turnedAway int

const (
	notFound turnedAway = iota
	methodNotAllowed
	bodyTooLarge
	headerTooLarge
	timedOut
	malformed
	notSupported
	turnedAways = iota
)

var turnedAwayNames = [turnedAways]string{
	"not_found", "method_not_allowed", "body_too_large", "header_too_large", "timeout", "malformed", "not_supported",
}

func (t turnedAway) String() string { return turnedAwayNames[t] }

var unauthorized = newProblem(fasthttp.StatusUnauthorized, "unauthorized",
	"the Authorization header holds no valid bearer token")

var turnedAwayProblems = [turnedAways]problem{
	notFound: newProblem(fasthttp.StatusNotFound, "not_found",
		"no such path or carrier"),
	methodNotAllowed: newProblem(fasthttp.StatusMethodNotAllowed, "method_not_allowed",
		"the Allow header names the methods of this path"),
	bodyTooLarge: newProblem(fasthttp.StatusRequestEntityTooLarge, "body_too_large",
		"the body is larger than this server accepts"),
	headerTooLarge: newProblem(fasthttp.StatusRequestHeaderFieldsTooLarge, "header_too_large",
		"the request line and headers are larger than this server accepts"),
	timedOut: newProblem(fasthttp.StatusRequestTimeout, "timeout",
		"the request did not arrive in time"),
	malformed: newProblem(fasthttp.StatusBadRequest, "malformed",
		"the request is not HTTP as this server understands it"),
	notSupported: newProblem(fasthttp.StatusNotImplemented, "not_supported",
		"callmask does not take this from a carrier of this kind; docs/carriers/README.md tells what each can do"),
}
