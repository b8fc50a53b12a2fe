package exotelsim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callmask/callmask/carrier/sim"
	"github.com/callmask/callmask/vn"
)

const (
	maxRequest = 64 << 10
	account    = "/v2_beta/Accounts/{account}/"
)

func (s *Server) routes() {
	s.mux = http.NewServeMux()
	for pattern, h := range map[string]struct {
		op   sim.Op
		work func(r *http.Request, f sim.Fault) sim.Answer
	}{
		"GET " + account + "AvailablePhoneNumbers/{region}/{type}": {sim.OpSearch, s.search},
		"POST " + account + "IncomingPhoneNumbers":                 {sim.OpBuy, s.buy},
		"GET " + account + "IncomingPhoneNumbers":                  {sim.OpList, s.list},
		"GET " + account + "IncomingPhoneNumbers/{sid}":            {sim.OpList, s.details},
		"PUT " + account + "IncomingPhoneNumbers/{sid}":            {sim.OpConfigure, s.attach},
		"DELETE " + account + "IncomingPhoneNumbers/{sid}":         {sim.OpRelease, s.release},
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !s.authorised(r) {
				refuse(http.StatusUnauthorized, 1010, "Authentication failed").Write(w)
				return
			}
			if r.PathValue("account") != s.cfg.AccountSID {
				notFound().Write(w)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			if r.ParseForm() != nil {
				refuse(http.StatusBadRequest, http.StatusBadRequest, "The request is not a form").Write(w)
				return
			}
			s.Handle(w, r, h.op, failure, func(f sim.Fault) sim.Answer { return h.work(r, f) })
		})
	}
}

func notFound() sim.Answer { return refuse(http.StatusNotFound, nil, "Not found") }

func (s *Server) search(r *http.Request, _ sim.Fault) sim.Answer {
	found := []map[string]any{}
	if r.PathValue("type") == "Landline" { // it has no others
		for _, n := range s.Offer(r.PathValue("region"), s.Available(r.PathValue("region"))) { // Exotel does not page here
			if !strings.Contains(n.Digits(), r.Form.Get("Contains")) {
				continue
			}
			found = append(found, map[string]any{
				"phone_number": n.E164(), "friendly_name": n.E164(), "country": r.PathValue("region"), "region": "KA",
				"number_type": "Landline", "rental_price": s.cfg.Price, "capabilities": map[string]bool{"voice": true, "sms": false},
			})
		}
	}
	return sim.Answer{Status: http.StatusOK, Body: found}
}

func (s *Server) buy(r *http.Request, f sim.Fault) sim.Answer {
	number, ok := vn.ParseE164(r.PostForm.Get("PhoneNumber"))
	if !ok {
		return refuse(http.StatusBadRequest, http.StatusBadRequest, "Bad request")
	}
	if !s.Sell(number) || f.Kind == sim.Snatch {
		return refuse(http.StatusConflict, http.StatusConflict, number.E164()+" is not available")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	bought := &owned{number: number, sid: fmt.Sprintf("%032x", s.sequence), name: "0" + number.Digits()[2:]}
	s.owned = append(s.owned, bought)
	s.purchases = append(s.purchases, sim.Purchase{
		Number: number, ID: bought.sid, Ref: r.PostForm.Get("FriendlyName"), At: time.Now(),
	})
	if f.Kind == sim.Partial {
		return sim.Answer{Status: http.StatusOK, Body: map[string]string{"phone_number": number.E164()}}
	}
	bought.set(r.PostForm)
	return sim.Answer{Status: http.StatusOK, Body: s.body(bought)}
}

func (o *owned) set(form url.Values) {
	for name, field := range map[string]*string{"FriendlyName": &o.name, "VoiceUrl": &o.voiceURL, "SMSUrl": &o.smsURL} {
		if form.Has(name) {
			*field = form.Get(name)
		}
	}
}

func (s *Server) body(o *owned) map[string]any {
	b := map[string]any{
		"sid": o.sid, "phone_number": o.number.E164(), "friendly_name": o.name, "country": "IN", "region": "KA",
		"capabilities": map[string]bool{"voice": true, "sms": false},
		"rental_price": s.cfg.Price, "currency": "INR", "voice_url": nil, "sms_url": nil,
	}
	if o.voiceURL != "" {
		// It comes back in another form than it was set, as in Exotel's own examples.
		b["voice_url"] = "https://my.exotel.com/exoml/start/" + o.voiceURL[strings.LastIndexByte(o.voiceURL, '/')+1:]
	}
	if o.smsURL != "" {
		b["sms_url"] = o.smsURL
	}
	return b
}

// list counts its pages from 0, so that a number that leaves moves those behind it.
func (s *Server) list(r *http.Request, _ sim.Fault) sim.Answer {
	page, err := strconv.Atoi(r.Form.Get("Page"))
	if err != nil || page < 0 {
		page = 0
	}
	size, err := strconv.Atoi(r.Form.Get("PageSize"))
	if err != nil || size < 1 || size > s.cfg.PageSize {
		size = s.cfg.PageSize
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to := min(page*size, len(s.owned)), min((page+1)*size, len(s.owned))
	numbers := make([]map[string]any, 0, to-from)
	for _, o := range s.owned[from:to] {
		numbers = append(numbers, s.body(o))
	}
	body := map[string]any{"page": page, "page_size": size, "incoming_phone_numbers": numbers, "next_page_uri": nil}
	if to < len(s.owned) {
		body["next_page_uri"] = fmt.Sprintf("http://twilix.exotel.example%s?Page=%d&PageSize=%d", r.URL.Path, page+1, size)
	}
	return sim.Answer{Status: http.StatusOK, Body: body}
}

// find returns the number that the path names. One that is leaving is seen a few
// times more. mu is held.
func (s *Server) find(r *http.Request) (*owned, bool) {
	i := slices.IndexFunc(s.owned, func(o *owned) bool { return o.sid == r.PathValue("sid") })
	if i < 0 {
		return nil, false
	}
	found := s.owned[i]
	if found.leaving {
		if found.looks == 0 {
			s.owned = slices.Delete(s.owned, i, i+1)
			return nil, false
		}
		found.looks--
	}
	return found, true
}

func (s *Server) details(r *http.Request, _ sim.Fault) sim.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.find(r); ok {
		return sim.Answer{Status: http.StatusOK, Body: s.body(o)}
	}
	return notFound()
}

func (s *Server) attach(r *http.Request, _ sim.Fault) sim.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.find(r)
	if !ok {
		return notFound()
	}
	o.set(r.PostForm)
	return sim.Answer{Status: http.StatusOK, Body: s.body(o)}
}

func (s *Server) release(r *http.Request, _ sim.Fault) sim.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.find(r)
	if !ok {
		return notFound()
	}
	if !o.leaving {
		o.leaving, o.looks = true, s.cfg.ReleaseAfter
	}
	return sim.Answer{Status: http.StatusAccepted, Body: map[string]any{"Status": http.StatusAccepted, "Message": "Accepted"}}
}
