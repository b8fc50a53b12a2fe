package twiliosim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/vn"
)

const (
	mostPerPage = 1000
	maxRequest  = 64 << 10
	account     = "/2010-04-01/Accounts/{account}/"
)

// writable are the parameters that set a field of a number, and the field.
var writable = [...][2]string{
	{"FriendlyName", "friendly_name"},
	{"VoiceUrl", "voice_url"},
	{"VoiceMethod", "voice_method"},
	{"VoiceFallbackUrl", "voice_fallback_url"},
	{"VoiceFallbackMethod", "voice_fallback_method"},
	{"VoiceApplicationSid", "voice_application_sid"},
	{"TrunkSid", "trunk_sid"},
	{"SmsUrl", "sms_url"},
	{"SmsMethod", "sms_method"},
	{"SmsApplicationSid", "sms_application_sid"},
	{"StatusCallback", "status_callback"},
	{"StatusCallbackMethod", "status_callback_method"},
	{"BundleSid", "bundle_sid"},
	{"AddressSid", "address_sid"},
}

func (s *Server) routes() {
	s.mux = http.NewServeMux()
	for pattern, h := range map[string]struct {
		op   sim.Op
		work func(r *http.Request, f sim.Fault) sim.Answer
	}{
		"GET " + account + "AvailablePhoneNumbers/{region}/{type}": {sim.OpSearch, s.search},
		"POST " + account + "IncomingPhoneNumbers.json":            {sim.OpBuy, s.buy},
		"GET " + account + "IncomingPhoneNumbers.json":             {sim.OpList, s.list},
		"GET " + account + "IncomingPhoneNumbers/{sid}":            {sim.OpConfigure, s.fetch},
		"POST " + account + "IncomingPhoneNumbers/{sid}":           {sim.OpConfigure, s.update},
		"DELETE " + account + "IncomingPhoneNumbers/{sid}":         {sim.OpRelease, s.release},
		"GET /v1/PhoneNumbers/Countries/{region}":                  {sim.OpSearch, s.price},
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !s.authorised(r) {
				refuse(http.StatusUnauthorized, 20003, "Authenticate").Write(w)
				return
			}
			if of := r.PathValue("account"); of != "" && of != s.cfg.AccountSID {
				notFound(r).Write(w)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			if r.ParseForm() != nil {
				refuse(http.StatusBadRequest, 20001, "The request is not a form").Write(w)
				return
			}
			s.Handle(w, r, h.op, failure, func(f sim.Fault) sim.Answer { return h.work(r, f) })
		})
	}
}

func notFound(r *http.Request) sim.Answer {
	return refuse(http.StatusNotFound, 20404, "The requested resource "+r.URL.Path+" was not found")
}

func (s *Server) search(r *http.Request, _ sim.Fault) sim.Answer {
	region, kind := r.PathValue("region"), strings.TrimSuffix(r.PathValue("type"), ".json")
	found := []map[string]any{}
	if kind == "Local" { // it has no others
		limit, err := strconv.Atoi(r.Form.Get("PageSize"))
		if err != nil || limit < 1 || limit > mostPerPage {
			limit = 30
		}
		for _, n := range s.Offer(region, limit) {
			if area := r.Form.Get("AreaCode"); area != "" && !strings.HasPrefix(n.Digits(), "1"+area) {
				continue
			}
			if s.cfg.Addresses[region] != "" && r.Form.Get("ExcludeAllAddressRequired") == "true" {
				continue
			}
			found = append(found, map[string]any{
				"phone_number": n.E164(), "friendly_name": friendly(n), "iso_country": region, "beta": false,
				"address_requirements": "none", "capabilities": map[string]bool{"voice": true, "SMS": true, "MMS": false},
			})
		}
	}
	return sim.Answer{Status: http.StatusOK, Body: map[string]any{"available_phone_numbers": found, "uri": r.URL.RequestURI()}}
}

// friendly is how Twilio calls a number that nobody gave a name.
func friendly(n vn.Number) string {
	d := n.Digits()
	if strings.HasPrefix(d, "1") && len(d) == 11 {
		return "(" + d[1:4] + ") " + d[4:7] + "-" + d[7:]
	}
	return n.E164()
}

func (s *Server) buy(r *http.Request, f sim.Fault) sim.Answer {
	asked := r.PostForm.Get("PhoneNumber")
	number, ok := vn.ParseE164(asked)
	if !ok || number == Invalid || len(r.PostForm.Get("FriendlyName")) > 64 {
		return refuse(http.StatusBadRequest, 21421, asked+" is not a valid number")
	}
	region := numbering.Region(number)
	if need := s.cfg.Bundles[region]; need != "" && r.PostForm.Get("BundleSid") != need {
		return refuse(http.StatusBadRequest, 21649, "Bundle required for "+asked)
	}
	if need := s.cfg.Addresses[region]; need != "" && r.PostForm.Get("AddressSid") != need {
		return refuse(http.StatusBadRequest, 21631, "Phone Number Requires an Address: "+asked)
	}
	if (number != AlwaysSold && !s.Sell(number)) || f.Kind == sim.Snatch {
		return refuse(http.StatusBadRequest, 21422, asked+" is not available")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	bought := &owned{number: number, fields: map[string]string{
		"sid": fmt.Sprintf("PN%032x", s.sequence), "account_sid": s.cfg.AccountSID, "phone_number": asked, "friendly_name": friendly(number),
		"voice_method": http.MethodPost, "sms_method": http.MethodPost, "status": "in-use", "origin": "twilio",
	}}
	s.owned = append(s.owned, bought)
	s.purchases = append(s.purchases, sim.Purchase{
		Number: number, ID: bought.fields["sid"], Ref: r.PostForm.Get("FriendlyName"), At: time.Now(),
	})
	if f.Kind == sim.Partial {
		return sim.Answer{Status: http.StatusCreated, Body: map[string]string{"phone_number": asked}}
	}
	bought.set(r.PostForm)
	return sim.Answer{Status: http.StatusCreated, Body: bought.body()}
}

func (o *owned) set(form url.Values) {
	for _, w := range writable {
		if form.Has(w[0]) {
			o.fields[w[1]] = form.Get(w[0])
		}
	}
}

// body is the number as Twilio writes it: what is not set is null.
func (o *owned) body() map[string]any {
	b := map[string]any{"capabilities": map[string]bool{"voice": true, "sms": true}, "beta": false}
	for _, w := range writable {
		b[w[1]] = nil
	}
	for name, value := range o.fields {
		if value != "" {
			b[name] = value
		}
	}
	return b
}

// list continues after the number that PageToken names, as Twilio's lists do.
func (s *Server) list(r *http.Request, _ sim.Fault) sim.Answer {
	size, err := strconv.Atoi(r.Form.Get("PageSize"))
	if err != nil || size < 1 {
		size = 50
	}
	size = min(size, s.cfg.PageSize)
	after := strings.TrimPrefix(r.Form.Get("PageToken"), "PA")
	s.mu.Lock()
	defer s.mu.Unlock()
	from, _ := slices.BinarySearchFunc(s.owned, after, func(o *owned, after string) int {
		if o.fields["sid"] <= after {
			return -1
		}
		return 1
	})
	to := min(from+size, len(s.owned))
	page := make([]map[string]any, 0, to-from)
	for _, o := range s.owned[from:to] {
		page = append(page, o.body())
	}
	number, _ := strconv.Atoi(r.Form.Get("Page")) // the first page has none
	body := map[string]any{"page": number, "page_size": size, "incoming_phone_numbers": page, "next_page_uri": nil}
	if to < len(s.owned) {
		body["next_page_uri"] = fmt.Sprintf("%s?PageSize=%d&Page=%d&PageToken=PA%s", r.URL.Path, size, number+1, s.owned[to-1].fields["sid"])
	}
	return sim.Answer{Status: http.StatusOK, Body: body}
}

// find returns the number that the path names. mu is held.
func (s *Server) find(r *http.Request) (int, bool) {
	sid := strings.TrimSuffix(r.PathValue("sid"), ".json")
	i := slices.IndexFunc(s.owned, func(o *owned) bool { return o.fields["sid"] == sid })
	return i, i >= 0
}

func (s *Server) fetch(r *http.Request, _ sim.Fault) sim.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.find(r); ok {
		return sim.Answer{Status: http.StatusOK, Body: s.owned[i].body()}
	}
	return notFound(r)
}

func (s *Server) update(r *http.Request, _ sim.Fault) sim.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.find(r)
	if !ok {
		return notFound(r)
	}
	s.owned[i].set(r.PostForm)
	return sim.Answer{Status: http.StatusOK, Body: s.owned[i].body()}
}

func (s *Server) release(r *http.Request, _ sim.Fault) sim.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.find(r)
	if !ok {
		return notFound(r)
	}
	s.owned = slices.Delete(s.owned, i, i+1)
	return sim.Answer{Status: http.StatusNoContent}
}

// price answers for the pricing API, which has a host of its own.
func (s *Server) price(r *http.Request, _ sim.Fault) sim.Answer {
	region := r.PathValue("region")
	if s.Available(region) == 0 {
		return notFound(r)
	}
	price, ok := s.cfg.Prices[region]
	if !ok {
		price = "1.15"
	}
	return sim.Answer{Status: http.StatusOK, Body: map[string]any{
		"iso_country": region, "price_unit": "USD", "phone_number_prices": []map[string]string{
			{"number_type": "toll free", "base_price": "2.15", "current_price": "2.15"},
			{"number_type": "local", "base_price": price, "current_price": price},
		},
	}}
}
