package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strconv"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/replenisher"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed assets
var assets embed.FS

// pages are the parsed templates, and the assets by the address that holds their hash: what
// has such an address never changes.
type pages struct {
	byName map[string]*template.Template
	files  map[string]asset
}

type asset struct {
	body, contentType string
}

var pageNames = []string{
	"sign-in", "overview", "stock", "pool", "calls", "search", "order", "number", "call", "explain", "confirm", "done", "audit", "failed",
}

func parsePages() (*pages, error) {
	p := &pages{byName: make(map[string]*template.Template), files: make(map[string]asset)}
	addresses := make(map[string]string)
	for name, contentType := range map[string]string{
		"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8",
		"uPlot.iife.min.js": "text/javascript; charset=utf-8", "uPlot.min.css": "text/css; charset=utf-8",
	} {
		body, err := assets.ReadFile("assets/" + name)
		if err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		sum := sha256.Sum256(body)
		addresses[name] = "assets/" + hex.EncodeToString(sum[:6]) + "/" + name
		p.files[addresses[name]] = asset{string(body), contentType}
	}
	words := template.FuncMap{
		"asset": func(name string) string { return Root + addresses[name] },
		"stamp": func(at time.Time) string { return at.UTC().Format(time.DateTime) },
		"news":  func(n events.PoolNews) string { return newsText(&n) },
		"entry": func(here, name, path, text string) entry { return entry{path, text, here == name} },
		"plus1": func(n int) int { return n + 1 }, "minus1": func(n int) int { return n - 1 },
		"short": func(d time.Duration) string { return d.Round(time.Second).String() },
	}
	for _, name := range pageNames {
		t, err := template.New("layout.html").Funcs(words).ParseFS(templates, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		p.byName[name] = t
	}
	return p, nil
}

// entry is one of the menu.
type entry struct {
	Path, Text string
	Current    bool
}

// page is what every template is given.
type page struct {
	Title   string
	Here    string // the entry of the menu that this page belongs to
	View    string // what its script watches; empty: nothing
	Query   string // the rest of what it watches, encoded
	Who     string
	Role    string // empty: nobody is signed in
	Token   string // for its forms
	Acts    bool   // whoever is signed in may change something
	Process string // the role of this process
	Trouble []string
	Problem string // why the last form was not taken
	Snap    *snapshot
	Data    any
}

// page returns a page for somebody who is signed in.
func (c *Console) page(r *request, title, here string) *page {
	p := &page{
		Title: title, Here: here, Who: r.who.Name, Role: string(r.who.Role), Token: r.door.formToken(r.who),
		Acts: r.operates(), Process: c.config.Role, Snap: c.snap.Load(),
	}
	if p.Snap != nil {
		p.Trouble = p.Snap.troubles()
	}
	return p
}

// show answers with a page. It is made as a whole first: half of one helps nobody.
func (c *Console) show(w http.ResponseWriter, status int, name string, p *page) {
	var body bytes.Buffer
	if err := c.pages.byName[name].Execute(&body, p); err != nil {
		c.log.Error().Err(err).Str("page", name).Msg("a page cannot be made")
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := w.Write(body.Bytes()); err != nil {
		c.log.Debug().Err(err).Msg("a page was not taken")
	}
}

const failed = "That did not work"

// fail answers with a page that says what went wrong.
func (c *Console) fail(w http.ResponseWriter, r *request, status int, problem string) {
	p := c.page(r, failed, "")
	p.Problem = problem
	c.show(w, status, "failed", p)
}

// turnAway is fail for somebody who is not signed in, or may not be.
func (c *Console) turnAway(w http.ResponseWriter, status int, problem string) {
	c.show(w, status, "failed", &page{Title: failed, Problem: problem})
}

func (c *Console) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Root+"assets/", c.getAsset)
	mux.HandleFunc("GET "+Root+"sign-in", c.getSignIn)
	mux.HandleFunc("POST "+Root+"sign-in", c.postSignIn)
	mux.Handle("POST "+Root+"sign-out", c.form(c.postSignOut))
	for path, handle := range map[string]func(http.ResponseWriter, *request){
		"{$}": c.getOverview, "stock": c.getStock, "pool": c.getPool, "calls": c.getCalls, "search": c.getSearch, "order": c.getOrder,
		"number": c.getNumber, "call": c.getCall, "explain": c.getExplain, "confirm": c.getConfirm, "audit": c.getAudit, "live": c.getLive,
	} {
		mux.Handle("GET "+Root+path, c.signedIn(handle))
	}
	mux.Handle("POST "+Root+"search", c.form(c.postSearch))
	mux.Handle("POST "+Root+"explain", c.form(c.postExplain))
	mux.Handle("POST "+Root+"act", c.form(c.postAct))
	mux.Handle(Root, c.signedIn(func(w http.ResponseWriter, r *request) {
		c.fail(w, r, http.StatusNotFound, "There is no such page.")
	}))
	return mux
}

func (c *Console) getAsset(w http.ResponseWriter, r *http.Request) {
	file, ok := c.pages.files[r.URL.Path[len(Root):]]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", file.contentType)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader([]byte(file.body)))
}

func (c *Console) getOverview(w http.ResponseWriter, r *request) {
	p := c.page(r, "Overview", "overview")
	p.View = "overview"
	p.Data = struct {
		Recorded bool
		Look     []poolRow // what somebody should look at first
	}{c.config.CallsRecorded, pressing(p.Snap)}
	c.show(w, http.StatusOK, "overview", p)
}

// pressing returns the pools that are empty or run out soon, some of them.
func pressing(s *snapshot) []poolRow {
	var list []poolRow
	if s == nil {
		return nil
	}
	for i := range s.Pools {
		if s.Pools[i].state() != "fine" && len(list) < 10 {
			list = append(list, s.Pools[i])
		}
	}
	return list
}

// spending is what a pool costs, as the replenisher knows it.
type spending struct {
	Pool   string
	Status replenisher.PoolStatus
}

func (c *Console) getStock(w http.ResponseWriter, r *request) {
	p := c.page(r, "Stock", "stock")
	q := r.URL.Query()
	filter := q.Get("q")
	if len(filter) > maxFilter {
		c.fail(w, r, http.StatusBadRequest, "The filter is longer than a pool's name can be.")
		return
	}
	number, _ := strconv.Atoi(q.Get("page")) // what is no number is the first page
	data := struct {
		poolPage

		Filter   string
		Spending []spending
		Keeps    bool
	}{Filter: filter, Keeps: c.Keeper != nil}
	if p.Snap != nil {
		data.poolPage = pick(p.Snap.Pools, filter, number)
		for i := range data.Rows {
			if st, ok := p.Snap.status(data.Rows[i].Name); ok {
				data.Spending = append(data.Spending, spending{data.Rows[i].Name, st})
			}
		}
	}
	p.View, p.Query = "stock", query("q", filter, "page", strconv.Itoa(max(1, data.Page)))
	p.Data = data
	c.show(w, http.StatusOK, "stock", p)
}

// status returns what the replenisher knows of a pool, where it is in this process.
func (s *snapshot) status(pool string) (replenisher.PoolStatus, bool) {
	if s.Status == nil {
		return replenisher.PoolStatus{}, false
	}
	st, ok := s.Status.Pools[pool]
	return st, ok
}

func (c *Console) getPool(w http.ResponseWriter, r *request) {
	name := r.URL.Query().Get("name")
	p := c.page(r, "Pool "+name, "stock")
	data := struct {
		Row   poolRow
		Spend *spending
		News  []events.PoolNews
	}{}
	if p.Snap == nil {
		c.fail(w, r, http.StatusServiceUnavailable, "Nothing is known yet: load the page again in some seconds.")
		return
	}
	found := false
	for i := range p.Snap.Pools {
		if p.Snap.Pools[i].Name == name {
			data.Row, found = p.Snap.Pools[i], true
		}
	}
	if !found {
		c.fail(w, r, http.StatusNotFound, "There is no such pool.")
		return
	}
	if st, ok := p.Snap.status(name); ok {
		data.Spend = &spending{name, st}
	}
	for _, n := range p.Snap.News {
		if n.Pool == name {
			data.News = append(data.News, n)
		}
	}
	p.View, p.Query, p.Data = "pool", query("q", name), data
	c.show(w, http.StatusOK, "pool", p)
}

func (c *Console) getCalls(w http.ResponseWriter, r *request) {
	p := c.page(r, "Calls", "calls")
	p.View = "calls"
	p.Data = struct{ Recorded bool }{c.config.CallsRecorded}
	c.show(w, http.StatusOK, "calls", p)
}

// trailMost is how many entries of the audit are shown.
const trailMost = 200

func (c *Console) getAudit(w http.ResponseWriter, r *request) {
	ctx, cancel := context.WithTimeout(r.Context(), actFor)
	defer cancel()
	trail, err := c.Bus.AuditTrail(ctx, trailMost)
	if err != nil {
		c.fail(w, r, http.StatusServiceUnavailable, "The audit cannot be read: NATS does not answer. Try again in a moment.")
		return
	}
	p := c.page(r, "Audit", "audit")
	p.Data = trail
	c.show(w, http.StatusOK, "audit", p)
}
