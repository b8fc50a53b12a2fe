package exotel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/internal/api"
	"github.com/callmask/callmask/vn"
)

const (
	pageSize = 50     // of a list, what Exotel's examples show
	maxPages = 10_000 // so that a list that does not end cannot hold us
)

// exoPhone is a number as Exotel writes it, for sale or owned. Not every answer has
// every field.
type exoPhone struct {
	SID          string `json:"sid"`
	PhoneNumber  string `json:"phone_number"`
	FriendlyName string `json:"friendly_name"`
	VoiceURL     string `json:"voice_url"`
	RentalPrice  string `json:"rental_price"` // monthly
	Currency     string `json:"currency"`
	Capabilities struct {
		Voice bool `json:"voice"`
	} `json:"capabilities"`
}

func (p *exoPhone) number() (vn.Number, bool) { return vn.ParseE164(p.PhoneNumber) }

// price shortens Exotel's six decimals ("499.000000") where that changes nothing. An
// amount without a currency is none.
func (p *exoPhone) price(otherwise string) (amount, currency string) {
	if currency = p.Currency; currency == "" {
		currency = otherwise
	}
	if _, err := strconv.ParseFloat(p.RentalPrice, 64); err != nil || currency == "" {
		return "", ""
	}
	amount = p.RentalPrice
	if point := strings.IndexByte(amount, '.'); point >= 0 && len(amount) > point+3 && strings.Trim(amount[point+3:], "0") == "" {
		amount = amount[:point+3]
	}
	return amount, currency
}

// errNotE164 is a number of the account's that is not E.164.
var errNotE164 = fmt.Errorf("%w: a number is not E.164", api.ErrUnexpected)

// bought reads a number of the account's.
func (n *Numbers) bought(p *exoPhone) (carrier.Bought, error) {
	if p.PhoneNumber == "" || !isID(p.SID) {
		return carrier.Bought{}, api.ErrUnexpected
	}
	number, ok := p.number()
	if !ok {
		return carrier.Bought{}, errNotE164
	}
	b := carrier.Bought{Number: number, Ref: p.SID, Tag: tag(p.FriendlyName)}
	b.Price, b.Currency = p.price("")
	b.CallsGoTo = p.VoiceURL
	// The address that comes back need not be written as the one that was set: Exotel's
	// own examples differ. The flow's id is its last part in all of them.
	if path.Base(p.VoiceURL) == n.cfg.AppID {
		b.WebhookURL, b.CallsGoTo = n.voiceURL, n.voiceURL
	}
	return b, nil
}

// tag reads the friendly name as the reference of the purchase. A number that was
// given none is called after itself.
func tag(name string) string {
	if strings.Trim(name, "+0123456789- ") == "" {
		return ""
	}
	return name
}

// read reads the answer that shows one number of the account's.
func (n *Numbers) read(a api.Answer) (carrier.Bought, error) {
	var p exoPhone
	if json.Unmarshal(a.Body, &p) != nil {
		return carrier.Bought{}, api.ErrUnexpected
	}
	return n.bought(&p)
}

// List returns every number that the account owns, or an error: never a part of them.
// One that is not E.164 is left out: what is bought or imported is, so it is none of
// ours. A list of several pages is read more than once (see api.Steady).
func (n *Numbers) List(ctx context.Context) ([]carrier.Bought, error) {
	all, err := api.Steady(func() ([]carrier.Bought, int, error) { return n.readList(ctx) })
	if err != nil {
		return nil, fmt.Errorf("exotel: list numbers: %w", err)
	}
	return all, nil
}

// onePage is a page of the list. Its next_page_uri names a host that is not the API's,
// so that only whether there is one counts.
// https://developer.exotel.com/api/exophone-details
type onePage struct {
	Size    int             `json:"page_size"`
	Next    json.RawMessage `json:"next_page_uri"`
	Numbers []exoPhone      `json:"incoming_phone_numbers"`
}

// more tells whether a page follows. Newer documentation shows no next_page_uri; then
// a full page may be followed by another one.
func (p *onePage) more() bool {
	switch string(p.Next) {
	case "":
		return len(p.Numbers) > 0 && len(p.Numbers) >= p.Size
	case "null", `""`:
		return false
	}
	return true
}

// readList reads the list once, and tells how many pages it had.
func (n *Numbers) readList(ctx context.Context) (all []carrier.Bought, pages int, err error) {
	seen := make(map[string]struct{})
	for pages < maxPages {
		var page onePage
		request := api.Get(fmt.Sprintf("%s/IncomingPhoneNumbers?Page=%d&PageSize=%d", n.account, pages, pageSize))
		if err := n.api.Do(ctx, request, http.StatusOK, &page); err != nil {
			return nil, 0, err
		}
		if page.Numbers == nil { // JSON without a list is not an account without numbers
			return nil, 0, api.ErrUnexpected
		}
		before := len(seen)
		for i := range page.Numbers {
			b, err := n.bought(&page.Numbers[i])
			if err != nil && !errors.Is(err, errNotE164) {
				return nil, 0, err
			}
			id := page.Numbers[i].SID
			if _, twice := seen[id]; !twice && err == nil {
				all = append(all, b)
			}
			seen[id] = struct{}{}
		}
		if pages++; !page.more() {
			return all, pages, nil
		}
		if len(seen) == before {
			return nil, 0, errors.New("a page brings nothing new: the carrier does not page as it is documented")
		}
	}
	return nil, 0, errors.New("the pages do not end")
}

// errorCode finds the code in {"RestException":{"Status":429,"Code":"RATE_LIMIT_EXCEEDED"}}
// or, where there is none, the status in that or in {"Status":404,"Message":…}.
func errorCode(body []byte) string {
	type exception struct {
		Status int             `json:"Status"`
		Code   json.RawMessage `json:"Code"` // a text, or a number
	}
	var told struct {
		exception
		Rest exception `json:"RestException"`
	}
	if json.Unmarshal(body, &told) != nil {
		return ""
	}
	for _, e := range []exception{told.Rest, told.exception} {
		if code := strings.Trim(string(e.Code), `"`); code != "" && code != "null" {
			return code
		}
		if e.Status != 0 {
			return strconv.Itoa(e.Status)
		}
	}
	return ""
}
