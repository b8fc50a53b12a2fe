package load

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // G505: the algorithm is Twilio's choice
	"encoding/base64"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/vn"
)

// Form is the way a call is announced.
type Form string

// The forms of a request.
const (
	Twilio Form = "twilio" // a signed POST, answered with TwiML
	JSON   Form = "json"   // GET /v1/resolve with a bearer token
)

// maxCalls bounds how many different calls are prepared: more than the processor's
// caches can hold of Redis's keys.
const maxCalls = 1 << 20

const signatureLen = 28 // base64 of a SHA-1

// call is one prepared request.
type call struct {
	binding   uint32
	stranger  bool
	calling   vn.Number
	signature [signatureLen]byte
}

// Calls holds prepared requests and knows the right answer to each.
type Calls struct {
	form      Form
	table     *world.Table
	connected []call
	refused   []call
	request   template
}

// template is the text of a request with places for what differs.
type template struct {
	text                           []byte
	id, called, calling, signature int // where each begins; -1: nowhere
}

const (
	numberMark    = "11111111111" // as long as every number of the table
	callingMark   = "22222222222"
	idMark        = "00000000000000000000000000000000"
	signatureMark = "ssssssssssssssssssssssssssss"
)

// NewCalls prepares calls by parties (all, or a random choice of a million) and,
// for every sixteenth of them, one by a stranger.
func NewCalls(t *world.Table, form Form, seed uint64) *Calls {
	c := &Calls{form: form, table: t, request: newTemplate(form)}
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // G404: a repeatable choice of calls, no secret
	n := min(len(t.Bindings), maxCalls)
	c.connected = make([]call, n)
	if n == len(t.Bindings) {
		for i, b := range r.Perm(n) {
			c.connected[i].binding = uint32(b)
		}
	} else {
		for i := range c.connected {
			c.connected[i].binding = uint32(r.IntN(len(t.Bindings)))
		}
	}
	for i := range c.connected {
		c.connected[i].calling = t.Bindings[c.connected[i].binding].Calling
	}
	c.refused = make([]call, max(1, n/16))
	for i := range c.refused {
		c.refused[i] = call{binding: uint32(r.IntN(len(t.Bindings))), stranger: true, calling: world.Stranger(r.Uint64())}
	}
	if form == Twilio {
		c.sign(c.connected)
		c.sign(c.refused)
	}
	return c
}

// sign signs all calls, on every processor.
func (c *Calls) sign(calls []call) {
	share := (len(calls) + runtime.NumCPU() - 1) / runtime.NumCPU()
	var wg sync.WaitGroup
	for from := 0; from < len(calls); from += share {
		wg.Go(func() {
			// https://www.twilio.com/docs/usage/security
			mac := hmac.New(sha1.New, []byte(world.AuthToken))
			var text, sum []byte
			for i := from; i < min(from+share, len(calls)); i++ {
				text = c.appendSigned(text[:0], i, &calls[i])
				mac.Reset()
				mac.Write(text)
				sum = mac.Sum(sum[:0])
				base64.StdEncoding.Encode(calls[i].signature[:], sum)
			}
		})
	}
	wg.Wait()
}

func (c *Calls) appendSigned(dst []byte, i int, k *call) []byte {
	dst = append(dst, world.PublicURL+world.VoicePath+"AccountSid"+world.AccountSID+"ApiVersion2010-04-01CallSidCA"...)
	dst = appendHex(dst, i, k)
	dst = append(dst, "CallStatusringingDirectioninboundFrom"...)
	dst = k.calling.AppendE164(dst)
	dst = append(dst, "To"...)
	return c.table.Bindings[k.binding].Called.AppendE164(dst)
}

// appendHex appends the 32 digits of the id of the i-th call.
func appendHex(dst []byte, i int, k *call) []byte {
	const digits = "0123456789abcdef"
	n := uint64(i) << 1
	if k.stranger {
		n |= 1
	}
	for shift := 124; shift >= 0; shift -= 4 {
		if shift >= 64 {
			dst = append(dst, 'b')
			continue
		}
		dst = append(dst, digits[n>>shift&15])
	}
	return dst
}

func newTemplate(form Form) template {
	var text string
	if form == JSON {
		text = "GET " + world.ResolvePath + "?called=%2B" + numberMark + "&calling=%2B" + callingMark + "&call_id=" + idMark +
			" HTTP/1.1\r\nHost: calls.example.com\r\nAuthorization: Bearer " + world.APIToken + "\r\nAccept: application/json\r\n\r\n"
	} else {
		body := "AccountSid=" + world.AccountSID + "&ApiVersion=2010-04-01&CallSid=CA" + idMark +
			"&CallStatus=ringing&Direction=inbound&From=%2B" + callingMark + "&To=%2B" + numberMark
		text = "POST " + world.VoicePath + " HTTP/1.1\r\nHost: calls.example.com\r\nUser-Agent: TwilioProxy/1.1\r\n" +
			"Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nX-Twilio-Signature: " + signatureMark +
			"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	return template{
		text: []byte(text), id: strings.Index(text, idMark), called: strings.Index(text, numberMark),
		calling: strings.Index(text, callingMark), signature: strings.Index(text, signatureMark),
	}
}

// appendRequest appends the request of a prepared call to dst.
func (c *Calls) appendRequest(dst []byte, i int, k *call) []byte {
	at := len(dst)
	dst = append(dst, c.request.text...)
	request := dst[at:]
	appendHex(request[c.request.id:c.request.id], i, k)
	c.table.Bindings[k.binding].Called.AppendDigits(request[c.request.called:c.request.called])
	k.calling.AppendDigits(request[c.request.calling:c.request.calling])
	if c.request.signature >= 0 {
		copy(request[c.request.signature:], k.signature[:])
	}
	return dst
}

// The answers to a call, as docs and carriers know them. They are written out here so
// that a wrong answer of the product cannot be taken for the right one.
const (
	xmlHead = `<?xml version="1.0" encoding="UTF-8"?>`
	refusal = xmlHead + `<Response><Reject reason="rejected"/></Response>`
)

// appendAnswer appends the right answer to a prepared call to dst.
func (c *Calls) appendAnswer(dst []byte, k *call) []byte {
	b := &c.table.Bindings[k.binding]
	switch {
	case k.stranger && c.form == JSON:
		return append(dst, `{"action":"reject","reason":"caller_not_allowed","sip_code":404,"sip_reason":"Not Found"}`...)
	case k.stranger:
		return append(dst, refusal...)
	case c.form == JSON:
		dst = append(dst, `{"action":"connect","destination":"`...)
		dst = b.Destination.AppendE164(dst)
		dst = append(dst, `","caller_id":"`...)
		dst = b.CallerID.AppendE164(dst)
		dst = append(dst, `","order_id":"`...)
		dst = append(dst, c.table.IDs.OrderID(int(b.Order))...)
		return append(dst, `","ring_timeout_s":30,"max_duration_s":3600}`...)
	}
	dst = append(dst, xmlHead+`<Response><Dial callerId="`...)
	dst = b.CallerID.AppendE164(dst)
	dst = append(dst, `" answerOnBridge="true" timeout="30" timeLimit="3600"><Number>`...)
	dst = b.Destination.AppendE164(dst)
	return append(dst, `</Number></Dial></Response>`...)
}

// right tells whether body is the right answer to the call.
func (c *Calls) right(body []byte, k *call, scratch *[]byte) bool {
	*scratch = c.appendAnswer((*scratch)[:0], k)
	return bytes.Equal(body, *scratch)
}
