package twilio

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/callmask/callmask/carrier"
	"github.com/callmask/callmask/carrier/internal/api"
	"github.com/callmask/callmask/vn"
)

const (
	pageSize = 1000   // of a list, Twilio's limit
	maxPages = 10_000 // so that a list that does not end cannot hold us
)

// errNotE164 is a number of the account's that is not E.164, such as a short code.
var errNotE164 = fmt.Errorf("%w: a number is not E.164", api.ErrUnexpected)

// List returns every number that the account owns, or an error: never a part of them.
// One that is not E.164 is left out: what is bought or imported is, so it is none of ours.
// A list of several pages is read more than once (see api.Steady): Twilio does not say
// what a page's token continues after.
func (n *Numbers) List(ctx context.Context) ([]carrier.Bought, error) {
	all, err := api.Steady(func() ([]carrier.Bought, int, error) { return n.readList(ctx) })
	if err != nil {
		return nil, fmt.Errorf("twilio: list numbers: %w", err)
	}
	return all, nil
}

// readList reads the list once, and tells how many pages it had. A number that moves
// from one page to the next meanwhile is there once.
func (n *Numbers) readList(ctx context.Context) (all []carrier.Bought, pages int, err error) {
	p := new(openapi.ListIncomingPhoneNumberParams).SetPageSize(pageSize)
	seen := make(map[string]struct{})
	token, number := "", ""
	for pages < maxPages {
		page, err := ask(ctx, n, func(s *openapi.ApiService) (*openapi.ListIncomingPhoneNumberResponse, error) {
			return s.PageIncomingPhoneNumber(p, token, number)
		})
		if err != nil {
			return nil, 0, err
		}
		if page.IncomingPhoneNumbers == nil { // JSON without a list is not an account without numbers
			return nil, 0, api.ErrUnexpected
		}
		for i := range page.IncomingPhoneNumbers {
			b, err := n.bought(&page.IncomingPhoneNumbers[i])
			if errors.Is(err, errNotE164) {
				continue
			}
			if err != nil {
				return nil, 0, err
			}
			if _, twice := seen[b.Ref]; !twice {
				seen[b.Ref] = struct{}{}
				all = append(all, b)
			}
		}
		pages++
		next := value(page.NextPageUri)
		if next == "" {
			return all, pages, nil
		}
		last := token + " " + number
		if token, number, err = n.nextPage(next); err != nil {
			return nil, 0, err
		}
		if token+" "+number == last {
			return nil, 0, errors.New("a page is followed by itself")
		}
	}
	return nil, 0, errors.New("the pages do not end")
}

// nextPage reads a page's next_page_uri. Only its token and number are used, so the
// request stays on the list's own address whatever the answer says.
func (n *Numbers) nextPage(uri string) (token, number string, err error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host != "" || u.Path != "/2010-04-01/Accounts/"+n.account+"/IncomingPhoneNumbers.json" {
		return "", "", errors.New("a page is followed by another address than the list's")
	}
	q := u.Query()
	if token, number = q.Get("PageToken"), q.Get("Page"); token == "" && number == "" {
		return "", "", errors.New("a page does not tell what follows it")
	}
	return token, number, nil
}

// bought reads a number of the account's.
func (n *Numbers) bought(got *openapi.ApiV2010IncomingPhoneNumber) (carrier.Bought, error) {
	if value(got.PhoneNumber) == "" || !isSID(value(got.Sid), "PN") {
		return carrier.Bought{}, api.ErrUnexpected
	}
	number, ok := vn.ParseE164(*got.PhoneNumber)
	if !ok {
		return carrier.Bought{}, errNotE164
	}
	b := carrier.Bought{Number: number, Ref: *got.Sid, Tag: tag(value(got.FriendlyName))}
	// A trunk, or else an application, gets the calls instead of the address.
	b.CallsGoTo = cmp.Or(value(got.TrunkSid), value(got.VoiceApplicationSid), value(got.VoiceUrl))
	if voice := value(got.VoiceUrl); voice != "" && differences(got, n.settings(voice)) == nil {
		b.WebhookURL = voice
	}
	return b, nil
}

// tag reads the friendly name as the reference of the purchase. A number that was
// given none is called after itself, as people of its country write it: "(202) 555-0100".
func tag(name string) string {
	digits := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c >= '0' && c <= '9':
			digits++
		case !strings.ContainsRune("+-(). ", rune(c)):
			return name
		}
	}
	if digits < 5 {
		return name
	}
	return ""
}
