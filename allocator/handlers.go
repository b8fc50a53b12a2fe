package allocator

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/callmask/callmask/internal/privateapi"
	"github.com/callmask/callmask/vn"
)

const typeJSON = "application/json"

// orderAnswer is an order as the API shows it: an ended one has a reason and
// neither parties nor an expiry.
type orderAnswer struct {
	OrderID   string        `json:"order_id"`
	Pool      string        `json:"pool,omitempty"`
	State     vn.State      `json:"state"`
	Reason    vn.EndReason  `json:"reason,omitempty"`
	ExpiresAt time.Time     `json:"expires_at,omitzero"`
	Parties   []partyAnswer `json:"parties,omitempty"`
}

type partyAnswer struct {
	Role string `json:"role"`
	VN   string `json:"vn"`
}

func showOrder(a vn.Assignment) orderAnswer {
	o := orderAnswer{OrderID: a.OrderID, Pool: a.Pool, State: a.State}
	if a.State == vn.Ended {
		o.Reason = a.EndReason
		return o
	}
	o.ExpiresAt = a.ExpiresAt.UTC()
	for _, p := range a.Parties {
		o.Parties = append(o.Parties, partyAnswer{Role: p.Role, VN: p.VN.E164()})
	}
	return o
}

func (s *api) putOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := orderID(r)
	if err != nil {
		return err
	}
	body, err := readObject(w, r)
	if err != nil {
		return err
	}
	order, err := s.order(body, id, true)
	if err != nil {
		return err
	}
	assignment, created, err := s.Assign(r.Context(), order)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		w.Header().Set("Location", "/v1/orders/"+id)
	}
	privateapi.Answer(w, &s.log, status, showOrder(assignment))
	return nil
}

func (s *api) getOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := orderID(r)
	if err != nil {
		return err
	}
	assignment, err := s.Order(r.Context(), id)
	if err != nil {
		return err
	}
	privateapi.Answer(w, &s.log, http.StatusOK, showOrder(assignment))
	return nil
}

func (s *api) patchOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := orderID(r)
	if err != nil {
		return err
	}
	body, err := readObject(w, r)
	if err != nil {
		return err
	}
	if err := body.only("ttl"); err != nil {
		return err
	}
	text, err := body.text("ttl")
	if err != nil {
		return err
	}
	if text == "" {
		return &vn.FieldError{Field: "ttl", Problem: "is missing"}
	}
	ttl, err := parseTTL(text)
	if err != nil {
		return err
	}
	assignment, err := s.Extend(r.Context(), id, ttl)
	if err != nil {
		return err
	}
	privateapi.Answer(w, &s.log, http.StatusOK, showOrder(assignment))
	return nil
}

func (s *api) deleteOrder(w http.ResponseWriter, r *http.Request) error {
	id, err := orderID(r)
	if err != nil {
		return err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &vn.FieldError{Field: "query", Problem: "is malformed"}
	}
	for name := range query {
		if name != "reason" {
			return &vn.FieldError{Field: plain(name), Problem: "is not a known parameter"}
		}
	}
	reason := vn.Completed
	switch given := query["reason"]; {
	case len(given) > 1:
		return &vn.FieldError{Field: "reason", Problem: "is given twice"}
	case len(given) == 1:
		reason = vn.EndReason(given[0])
	}
	if err := s.End(r.Context(), id, reason); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *api) getPools(w http.ResponseWriter, r *http.Request) error {
	rows, err := s.Pools(r.Context())
	if err != nil {
		return err
	}
	privateapi.Answer(w, &s.log, http.StatusOK, rows)
	return nil
}

func (s *api) postNumbers(w http.ResponseWriter, r *http.Request) error {
	body, err := readObject(w, r)
	if err != nil {
		return err
	}
	if err := body.only("numbers", "carrier"); err != nil {
		return err
	}
	carrier, err := body.text("carrier")
	if err != nil {
		return err
	}
	if carrier == "" {
		return &vn.FieldError{Field: "carrier", Problem: "is missing"}
	}
	list, err := body.list("numbers")
	if err != nil {
		return err
	}
	numbers := make([]string, len(list))
	for i, raw := range list {
		at := "numbers[" + strconv.Itoa(i) + "]"
		if numbers[i], err = asText(raw, at); err != nil {
			return err
		}
	}
	done, err := s.Import(r.Context(), r.PathValue("name"), carrier, numbers)
	if err != nil {
		return err
	}
	privateapi.Answer(w, &s.log, http.StatusOK, done)
	return nil
}

func (s *api) deleteNumber(w http.ResponseWriter, r *http.Request) error {
	left, err := s.Remove(r.Context(), r.PathValue("name"), r.PathValue("vn"))
	if err != nil {
		return err
	}
	privateapi.Answer(w, &s.log, http.StatusAccepted, struct {
		Left bool `json:"left"`
	}{left})
	return nil
}

func (s *api) getOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	privateapi.Write(w, &s.log, http.StatusOK, typeJSON, []byte(privateapi.OpenAPI))
	return nil
}

func orderID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	return id, vn.CheckOrderID(id)
}

// readObject reads a JSON body of at most MaxBody bytes.
func readObject(w http.ResponseWriter, r *http.Request) (object, error) {
	if err := checkContentType(r); err != nil {
		return object{}, err
	}
	if r.ContentLength > MaxBody {
		w.Header().Set("Connection", "close")
		return object{}, errTooLarge
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return object{}, errTooLarge
	case err != nil:
		return object{}, &vn.FieldError{Field: "body", Problem: "could not be read"}
	}
	return decodeObject(data, "body")
}

// checkContentType accepts JSON in UTF-8, and a body that says nothing of itself.
func checkContentType(r *http.Request) error {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return nil
	}
	kind, params, err := mime.ParseMediaType(header)
	if err != nil || kind != typeJSON {
		return errMediaType
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return errMediaType
	}
	return nil
}
