package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/explain"
	"github.com/callmask/callmask/numbering"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

const (
	// mostSearches bounds the searches that read the streams at a time: they cost NATS more
	// than all watchers together.
	mostSearches = 2
	searchFor    = 8 * time.Second
)

// spans are how far back a search may look.
var spans = map[string]time.Duration{"1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour, "30d": 30 * 24 * time.Hour}

// story is what is found of an order, a number or a call.
type story struct {
	Back   string // how far back was looked
	Events []told
	Read   int
	Whole  bool
}

// told is an event in words.
type told struct {
	events.Happened

	Text, Why string
	Refusal   bool
}

func (c *Console) getSearch(w http.ResponseWriter, r *request) {
	c.show(w, http.StatusOK, "search", c.page(r, "Search", "search"))
}

// postSearch finds out what is searched for and leads there. It is sent as a form, because
// somebody may put a person's number into it: that must not end in an address or a log.
func (c *Console) postSearch(w http.ResponseWriter, r *request) {
	text := strings.TrimSpace(r.PostForm.Get("text"))
	back := r.PostForm.Get("back")
	if _, ok := spans[back]; !ok {
		back = "24h"
	}
	no := func(status int, problem string) {
		p := c.page(r, "Search", "search")
		p.Problem = problem
		c.show(w, status, "search", p)
	}
	if text == "" || len(text) > 200 {
		no(http.StatusBadRequest, "Give an order's id, a virtual number with + and country code, or a carrier's id of a call.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actFor)
	defer cancel()
	if n, err := numbering.Parse(text, ""); err == nil {
		f, err := c.Store.Explain(ctx, n, n)
		switch {
		case err != nil:
			no(http.StatusServiceUnavailable, "Redis does not answer. Try again in a moment.")
		case f.Inventory == nil && f.Callers == 0:
			no(http.StatusNotFound, "This is none of our virtual numbers. People cannot be searched for by their numbers: callmask does not keep them.")
		default:
			http.Redirect(w, r.Request, Root+"number?"+query("number", n.E164(), "back", back), http.StatusSeeOther)
		}
		return
	}
	if vn.CheckOrderID(text) == nil {
		_, err := c.Store.Order(ctx, text)
		if err == nil {
			http.Redirect(w, r.Request, Root+"order?"+query("id", text, "back", back), http.StatusSeeOther)
			return
		}
		if !errors.Is(err, vn.ErrOrderUnknown) {
			no(http.StatusServiceUnavailable, "Redis does not answer. Try again in a moment.")
			return
		}
	}
	http.Redirect(w, r.Request, Root+"call?"+query("id", text, "back", back), http.StatusSeeOther)
}

// query encodes pairs of names and values.
func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

// find reads the streams for a story. Few do so at a time; the others wait.
func (c *Console) find(ctx context.Context, of events.Sought, back string) (*story, error) {
	span, ok := spans[back]
	if !ok {
		back, span = "24h", spans["24h"]
	}
	ctx, cancel := context.WithTimeout(ctx, searchFor)
	defer cancel()
	select {
	case c.finding <- struct{}{}:
		defer func() { <-c.finding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	h, err := c.Bus.History(ctx, of, c.now().Add(-span))
	if err != nil {
		return nil, err
	}
	s := &story{Back: back, Read: h.Read, Whole: h.Whole}
	for i := range h.Events {
		s.Events = append(s.Events, tell(h.Events[i]))
	}
	return s, nil
}

// sought answers with a page about what was searched for.
func (c *Console) sought(w http.ResponseWriter, r *request, name, title string, of events.Sought, fill func(ctx context.Context, s *story) (any, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), searchFor+actFor)
	defer cancel()
	s, err := c.find(ctx, of, r.URL.Query().Get("back"))
	var data any
	if err == nil {
		data, err = fill(ctx, s)
	}
	if err != nil {
		c.log.Debug().Err(err).Msg("a search failed")
		c.fail(w, r, http.StatusServiceUnavailable, "The search did not come to an end: Redis or NATS does not answer, or others are searching. Try again in a moment.")
		return
	}
	p := c.page(r, title, "search")
	p.Data = data
	c.show(w, http.StatusOK, name, p)
}

func (c *Console) getOrder(w http.ResponseWriter, r *request) {
	id := r.URL.Query().Get("id")
	if vn.CheckOrderID(id) != nil {
		c.fail(w, r, http.StatusBadRequest, "This is no order's id: it has 1 to 64 of A-Z a-z 0-9 . _ : -")
		return
	}
	c.sought(w, r, "order", "Order "+id, events.Sought{OrderID: id}, func(ctx context.Context, s *story) (any, error) {
		o, err := c.Store.Order(ctx, id)
		gone := errors.Is(err, vn.ErrOrderUnknown)
		if err != nil && !gone {
			return nil, err
		}
		parties := make([]party, len(o.Parties))
		for i, p := range o.Parties {
			parties[i] = party{p.Role, p.VN.E164()}
		}
		return struct {
			*story

			ID      string
			Order   vn.Assignment
			Parties []party
			Gone    bool
			Active  bool
			Acts    bool
		}{s, id, o, parties, gone, o.State == vn.Active, c.Orders != nil}, nil
	})
}

type party struct{ Role, VN string }

func (c *Console) getNumber(w http.ResponseWriter, r *request) {
	n, ok := vn.ParseE164(r.URL.Query().Get("number"))
	if !ok {
		c.fail(w, r, http.StatusBadRequest, "This is no number with + and country code.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actFor)
	defer cancel()
	f, err := c.Store.Explain(ctx, n, n)
	if err != nil {
		c.fail(w, r, http.StatusServiceUnavailable, "Redis does not answer. Try again in a moment.")
		return
	}
	if f.Inventory == nil && f.Callers == 0 {
		c.fail(w, r, http.StatusNotFound, "This is none of our virtual numbers.")
		return
	}
	c.sought(w, r, "number", "Number "+n.E164(), events.Sought{VN: n}, func(_ context.Context, s *story) (any, error) {
		return struct {
			*story

			Number string
			Facts  *scripts.Facts
			Acts   bool
		}{s, n.E164(), f, c.Orders != nil && f.Inventory != nil && f.State != scripts.StateDraining}, nil
	})
}

func (c *Console) getCall(w http.ResponseWriter, r *request) {
	id := r.URL.Query().Get("id")
	if id == "" || len(id) > 200 {
		c.fail(w, r, http.StatusBadRequest, "This is no id of a call.")
		return
	}
	c.sought(w, r, "call", "Call", events.Sought{CallID: id}, func(_ context.Context, s *story) (any, error) {
		return struct {
			*story

			ID string
		}{s, id}, nil
	})
}

// explained is what the explain page shows.
type explained struct {
	Called, Carrier string // as given; the caller's number is not given back
	Carriers        []string
	Explanation     *explain.Explanation
}

func (c *Console) getExplain(w http.ResponseWriter, r *request) {
	p := c.page(r, "Explain a call", "explain")
	p.Data = explained{Called: r.URL.Query().Get("called"), Carriers: c.config.Carriers}
	c.show(w, http.StatusOK, "explain", p)
}

func (c *Console) postExplain(w http.ResponseWriter, r *request) {
	f := r.PostForm
	p := c.page(r, "Explain a call", "explain")
	data := explained{Carrier: f.Get("carrier"), Carriers: c.config.Carriers}
	reveal := f.Get("reveal") != ""
	if reveal && !r.operates() {
		c.fail(w, r, http.StatusForbidden, "Only operators may see real numbers; you are signed in to look.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actFor)
	defer cancel()
	status := http.StatusOK
	e, err := c.Explainer.Explain(ctx, explain.Ask{Called: f.Get("called"), Calling: f.Get("calling"), Carrier: data.Carrier, Reveal: reveal},
		explain.Person{Name: r.who.Name, Role: string(r.who.Role), From: from(r.Request)})
	var field *vn.FieldError
	switch {
	case errors.As(err, &field):
		status, p.Problem = http.StatusBadRequest, "The field "+field.Error()+"."
	case err != nil:
		status, p.Problem = http.StatusServiceUnavailable, "It cannot be said now: Redis does not answer, or the audit does not take that numbers are shown. Try again in a moment."
	default:
		data.Called, data.Explanation = e.Called, e
	}
	p.Data = data
	c.show(w, status, "explain", p)
}
