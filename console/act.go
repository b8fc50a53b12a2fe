package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/callmask/callmask/events"
	"github.com/callmask/callmask/replenisher"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/vn"
)

// actFor bounds everything that a request asks of Redis, NATS and the engine.
const actFor = 10 * time.Second

// action is one thing that an operator can do.
type action struct {
	// look says what would be done, by what is true now; an error is told as it is.
	look func(c *Console, ctx context.Context, form url.Values) (*question, error)
	// do does it and says what became of it.
	do func(c *Console, ctx context.Context, form url.Values, who string) (string, error)
	// target is what the audit names.
	target string
}

// question is what an operator has to confirm.
type question struct {
	Do      string // the name of the action
	Title   string
	Text    []string // what happens, and what is true now
	Button  string
	Fields  map[string]string // hidden ones that come back with the answer
	Numbers bool              // ask how many
	Reason  bool              // ask why: completed or cancelled
	Most    int
	Back    string // where to go instead
}

// refusal is an error that is told to the operator as it is.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// actions by their name, which is also that of their audit entries.
func actions() map[string]action {
	return map[string]action{
		events.AuditReleaseOrder:  {look: (*Console).askRelease, do: (*Console).doRelease, target: "order"},
		events.AuditDrainNumber:   {look: (*Console).askDrain, do: (*Console).doDrain, target: "number"},
		events.AuditTopUp:         {look: (*Console).askTopUp, do: (*Console).doTopUp, target: "pool"},
		events.AuditPauseCarrier:  {look: (*Console).askPause, do: (*Console).doPause, target: "carrier"},
		events.AuditResumeCarrier: {look: (*Console).askPause, do: (*Console).doPause, target: "carrier"},
	}
}

func (c *Console) getConfirm(w http.ResponseWriter, r *request) {
	form := r.URL.Query()
	a, ok := actions()[form.Get("do")]
	switch {
	case !ok:
		c.fail(w, r, http.StatusNotFound, "There is no such action.")
		return
	case !r.operates():
		c.fail(w, r, http.StatusForbidden, "Only operators may do this; you are signed in to look.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actFor)
	defer cancel()
	q, err := a.look(c, ctx, form)
	if err != nil {
		status, text := c.why(err)
		c.fail(w, r, status, text)
		return
	}
	q.Do = form.Get("do")
	q.Fields["do"], q.Fields[a.target], q.Fields["id"] = q.Do, form.Get(a.target), events.NewAuditID()
	p := c.page(r, q.Title, "")
	p.Data = q
	c.show(w, http.StatusOK, "confirm", p)
}

// postAct does what was confirmed: the audit first, then the deed, then what became of it.
func (c *Console) postAct(w http.ResponseWriter, r *request) {
	form := r.PostForm
	a, ok := actions()[form.Get("do")]
	switch {
	case !ok:
		c.fail(w, r, http.StatusNotFound, "There is no such action.")
		return
	case !r.operates():
		c.fail(w, r, http.StatusForbidden, "Only operators may do this; you are signed in to look. Nothing was done.")
		return
	case len(form.Get("id")) != len(events.NewAuditID()):
		c.fail(w, r, http.StatusBadRequest, "The form is not complete, so nothing was done.")
		return
	}
	// Half done helps nobody: it goes on when the browser goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 2*actFor)
	defer cancel()
	entry := events.AuditEntry{
		ID: form.Get("id"), Who: r.who.Name, Role: string(r.who.Role), From: from(r.Request),
		Action: form.Get("do"), Target: shown(form.Get(a.target)), Outcome: events.AuditAsked, Detail: shown(form.Get("numbers")),
	}
	if err := c.Bus.Audit(ctx, entry); err != nil {
		c.log.Error().Err(err).Str("action", entry.Action).Msg("the audit does not take an entry; the action is not done")
		c.fail(w, r, http.StatusServiceUnavailable, "Nothing was done: the audit does not take the entry, because NATS does not answer or cannot store it (is its disk full?).")
		return
	}
	text, err := a.do(c, ctx, form, r.who.Name)
	status := http.StatusOK
	entry.Outcome, entry.Detail = events.AuditDone, text
	if err != nil {
		status, text = c.why(err)
		entry.Outcome, entry.Detail = events.AuditFailed, text
	}
	if err := c.Bus.Audit(ctx, entry); err != nil { // that it was asked for is kept
		c.log.Error().Err(err).Str("action", entry.Action).Str("outcome", entry.Outcome).Msg("the audit does not take what became of an action")
	}
	c.log.Info().Str("action", entry.Action).Str("outcome", entry.Outcome).Msg("an operator acted in the console")
	if err != nil {
		c.fail(w, r, status, text)
		return
	}
	p := c.page(r, "Done", "")
	p.Data = struct{ Text, Back string }{text, backTo(form)}
	c.show(w, status, "done", p)
}

// shown cuts what an audit entry repeats of a form.
func shown(s string) string { return s[:min(len(s), 80)] }

func backTo(form url.Values) string {
	switch {
	case form.Get("order") != "":
		return Root + "order?" + query("id", form.Get("order"))
	case form.Get("pool") != "":
		return Root + "pool?" + query("name", form.Get("pool"))
	}
	return Root + "stock"
}

// why turns an error into words and a status.
func (c *Console) why(err error) (int, string) {
	var own *refusal
	var field *vn.FieldError
	switch {
	case errors.As(err, &own):
		return own.status, own.text
	case errors.As(err, &field):
		return http.StatusBadRequest, "The field " + field.Error() + ". Nothing was done."
	case errors.Is(err, events.ErrAskedSince):
		return http.StatusConflict, "Nothing was done: somebody else has asked for the same in the meantime. Look again, and decide anew."
	case errors.Is(err, vn.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, "Redis or NATS did not answer in time, so it is not known whether it was done. Look again; it may be repeated."
	}
	c.log.Error().Err(err).Msg("an action of the console failed")
	return http.StatusInternalServerError, "It failed; the log says why."
}

var errNoAllocator = &refusal{http.StatusNotFound, "This process does not run the allocator, which does this: open the console of one that does (callmask allocator or callmask all)."}

func (c *Console) askRelease(ctx context.Context, form url.Values) (*question, error) {
	if c.Orders == nil {
		return nil, errNoAllocator
	}
	o, err := c.Store.Order(ctx, form.Get("order"))
	switch {
	case errors.Is(err, vn.ErrOrderUnknown):
		return nil, refuse(http.StatusNotFound, "There is no such order.")
	case err != nil:
		return nil, err
	case o.State == vn.Ended:
		return nil, refuse(http.StatusConflict, "Order %s has ended already (%s).", o.OrderID, o.EndReason)
	}
	return &question{
		Title: "Release order " + o.OrderID + "?", Button: "Release the order", Reason: true, Fields: map[string]string{},
		Back: Root + "order?" + query("id", o.OrderID),
		Text: []string{
			fmt.Sprintf("Its %d parties can no longer call each other, at once. The numbers cool down and come back to pool %s.", len(o.Parties), o.Pool),
			"An order that has ended never comes back.",
		},
	}, nil
}

func (c *Console) doRelease(ctx context.Context, form url.Values, _ string) (string, error) {
	if c.Orders == nil {
		return "", errNoAllocator
	}
	id := form.Get("order")
	if err := vn.CheckOrderID(id); err != nil {
		return "", err
	}
	o, err := c.Store.Order(ctx, id)
	switch {
	case errors.Is(err, vn.ErrOrderUnknown):
		return "", refuse(http.StatusNotFound, "There is no such order. Nothing was done.")
	case err != nil:
		return "", err
	case o.State == vn.Ended:
		return "", refuse(http.StatusConflict, "Order %s had ended already (%s). Nothing was done.", id, o.EndReason)
	}
	if err := c.Orders.End(ctx, id, vn.EndReason(form.Get("reason"))); err != nil {
		return "", err
	}
	return "Order " + id + " is released (" + form.Get("reason") + ").", nil
}

// ours returns where a number is; it must be in a pool.
func (c *Console) ours(ctx context.Context, number string) (*scripts.Facts, vn.Number, error) {
	n, ok := vn.ParseE164(number)
	if !ok {
		return nil, 0, &vn.FieldError{Field: "number", Problem: "is no number with + and country code"}
	}
	f, err := c.Store.Explain(ctx, n, n)
	if err != nil {
		return nil, 0, err
	}
	if f.Inventory == nil {
		return nil, 0, refuse(http.StatusNotFound, "This number is in no pool (any more). Nothing was done.")
	}
	return f, n, nil
}

func (c *Console) askDrain(ctx context.Context, form url.Values) (*question, error) {
	if c.Orders == nil {
		return nil, errNoAllocator
	}
	f, n, err := c.ours(ctx, form.Get("number"))
	if err != nil {
		return nil, err
	}
	when := "It leaves at once."
	if f.State == scripts.StateLeased {
		when = "An order holds it: it serves that one and leaves when it ends."
	}
	return &question{
		Title: "Drain " + n.E164() + "?", Button: "Take the number out", Fields: map[string]string{},
		Back: Root + "number?" + query("number", n.E164()),
		Text: []string{
			fmt.Sprintf("The number is %s in pool %s. %s", f.State, f.Inventory.Pool, when),
			"A number that was bought is still paid for: callmask pool release gives it back to its carrier as well.",
		},
	}, nil
}

func (c *Console) doDrain(ctx context.Context, form url.Values, _ string) (string, error) {
	if c.Orders == nil {
		return "", errNoAllocator
	}
	f, n, err := c.ours(ctx, form.Get("number"))
	if err != nil {
		return "", err
	}
	left, err := c.Orders.Remove(ctx, f.Inventory.Pool, n.E164())
	switch {
	case errors.Is(err, vn.ErrNumberUnknown):
		return "", refuse(http.StatusConflict, "The number had left its pool already. Nothing was done.")
	case err != nil:
		return "", err
	case left:
		return n.E164() + " has left pool " + f.Inventory.Pool + ".", nil
	}
	return n.E164() + " leaves pool " + f.Inventory.Pool + " when its order ends.", nil
}

func (c *Console) askTopUp(ctx context.Context, form url.Values) (*question, error) {
	pool := form.Get("pool")
	s := c.snap.Load()
	if s == nil || !slices.Contains(c.config.Pools, pool) {
		return nil, refuse(http.StatusNotFound, "There is no such pool in the settings.")
	}
	last, seq, err := c.Bus.LastTopUp(ctx, pool)
	if err != nil {
		return nil, err
	}
	q := &question{
		Title: "Top up pool " + pool + "?", Button: "Buy numbers", Numbers: true, Most: replenisher.MostTopUp,
		Back: Root + "pool?" + query("name", pool), Fields: map[string]string{"seen": strconv.FormatUint(seq, 10)},
		Text: []string{"Numbers are bought of the pool's carriers, within its max and its monthly cap, by the replenisher that acts for the pool. What is not sold within ten minutes is dropped; what is not needed for long is given back as surplus."},
	}
	for i := range s.Pools {
		if p := &s.Pools[i]; p.Name == pool {
			q.Text = append(q.Text, fmt.Sprintf("It has %d numbers now, %d of them free.", p.Total(), p.Free))
		}
	}
	if seq > 0 {
		q.Text = append(q.Text, fmt.Sprintf("In the last 24 hours %s asked for %d.", last.By, last.Numbers))
	}
	return q, nil
}

func (c *Console) doTopUp(ctx context.Context, form url.Values, who string) (string, error) {
	pool := form.Get("pool")
	if !slices.Contains(c.config.Pools, pool) {
		return "", refuse(http.StatusNotFound, "There is no such pool in the settings. Nothing was done.")
	}
	n, err := strconv.Atoi(form.Get("numbers"))
	if err != nil || n < 1 || n > replenisher.MostTopUp {
		return "", refuse(http.StatusBadRequest, "How many numbers must be between 1 and %d. Nothing was done.", replenisher.MostTopUp)
	}
	seen, err := strconv.ParseUint(form.Get("seen"), 10, 64)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "The form is not complete, so nothing was done.")
	}
	if err := c.Bus.AskTopUp(ctx, events.TopUp{ID: form.Get("id"), Pool: pool, Numbers: n, By: who}, seen); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d numbers are asked for. What is bought shows among the purchases.", n), nil
}

func (c *Console) askPause(ctx context.Context, form url.Values) (*question, error) {
	carrier, pause := form.Get("carrier"), form.Get("do") == events.AuditPauseCarrier
	if !slices.Contains(c.config.Sellers, carrier) {
		return nil, refuse(http.StatusNotFound, "No carrier of this name sells numbers, so there is nothing to pause.")
	}
	now, seq, err := c.Bus.CarrierPause(ctx, carrier)
	switch {
	case err != nil:
		return nil, err
	case pause && now.Paused:
		return nil, refuse(http.StatusConflict, "Carrier %s is paused already, by %s.", carrier, now.By)
	case !pause && !now.Paused:
		return nil, refuse(http.StatusConflict, "Carrier %s is not paused.", carrier)
	}
	q := &question{
		Title: "Pause buying of " + carrier + "?", Button: "Pause the carrier", Back: Root + "stock",
		Fields: map[string]string{"seen": strconv.FormatUint(seq, 10)},
		Text: []string{
			"Nothing more is bought of it, by any replenisher, until somebody resumes it. The next carrier of each pool is asked instead.",
			"Its numbers go on serving orders and calls; comparing its list and giving numbers back go on too.",
		},
	}
	if !pause {
		q.Title, q.Button, q.Text = "Resume buying of "+carrier+"?", "Resume the carrier", []string{"Pools that need numbers buy of it again, within seconds. " + now.By + " paused it."}
	}
	return q, nil
}

func (c *Console) doPause(ctx context.Context, form url.Values, who string) (string, error) {
	carrier, pause := form.Get("carrier"), form.Get("do") == events.AuditPauseCarrier
	seen, err := strconv.ParseUint(form.Get("seen"), 10, 64)
	if err != nil || !slices.Contains(c.config.Sellers, carrier) {
		return "", refuse(http.StatusBadRequest, "The form is not complete, so nothing was done.")
	}
	if err := c.Bus.PutPause(ctx, events.Pause{Carrier: carrier, Paused: pause, By: who}, seen); err != nil {
		return "", err
	}
	if pause {
		return "Nothing is bought of " + carrier + " until somebody resumes it.", nil
	}
	return "Numbers are bought of " + carrier + " again.", nil
}
