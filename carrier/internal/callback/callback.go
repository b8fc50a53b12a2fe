// Package callback writes and reads the address that a carrier tells call progress to.
//
//	Parse(setting) ─▶ URL ──AppendJSON──▶ "https://…/status?order_id=…" ··carrier··▶ Order(query) ─▶ order id
package callback

import (
	"bytes"
	"net/url"

	"github.com/callmask/callmask/carrier/internal/form"
	"github.com/callmask/callmask/carrier/internal/text"
	"github.com/callmask/callmask/vn"
)

// OrderID is the query parameter that carries the order through the carrier and back.
const OrderID = "order_id"

// URL is where call progress is told. The zero URL means that none is asked for.
type URL struct {
	json []byte // escaped for a JSON string, without its quotes
}

// Parse reads the address; empty gives the zero URL. It is made of the setting
// public_url, which an error (a *vn.FieldError) therefore names.
func Parse(s string) (URL, error) {
	if s == "" {
		return URL{}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return URL{}, &vn.FieldError{Field: "public_url", Problem: "must be an http or https address, such as https://calls.example.com"}
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return URL{}, &vn.FieldError{Field: "public_url", Problem: "must not hold a password, a query or a fragment: it is the base that paths are appended to"}
	}
	quoted := text.AppendJSON(nil, s)
	return URL{json: quoted[1 : len(quoted)-1]}, nil
}

// None tells whether no call progress is asked for.
func (u URL) None() bool { return len(u.json) == 0 }

// AppendJSON appends the URL of one order's call as a JSON string with its quotes. The
// order is left out when it is no order id, which could not stand in a URL as it is.
func (u URL) AppendJSON(dst, order []byte) []byte {
	dst = append(append(dst, '"'), u.json...)
	if vn.CheckOrderID(order) == nil {
		dst = append(append(dst, "?"+OrderID+"="...), order...)
	}
	return append(dst, '"')
}

// Order returns the order id among the parameters of a callback's URL in memory of its
// own, nil when there is none. An error is a *vn.FieldError.
func Order(query *form.Form) ([]byte, error) {
	p, found, err := query.Optional(OrderID)
	if err != nil || !found {
		return nil, err
	}
	if err := vn.CheckOrderID(p.Value); err != nil {
		return nil, err
	}
	return bytes.Clone(p.Value), nil
}
