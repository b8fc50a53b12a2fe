package doctor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/seal"
)

func (d *doctor) settings(_ context.Context, r *report) {
	if d.SettingsError != nil {
		r.bad(Fail, "mend the setting that is named; `callmask config` shows what is in force", "%s", oneLine(d.SettingsError))
		return
	}
	if d.Role != "" {
		if err := d.set.Check(d.Role); err != nil {
			r.bad(Fail, "give the setting, or say with --role what runs here", "%s", oneLine(err))
			return
		}
	}
	from := cmp.Or(d.set.Config, "no settings file")
	if len(d.set.Pools) == 0 {
		r.bad(Warn, "name a settings file in CALLMASK_CONFIG: pools and carriers are looked at then, too", "%s: no pools", from)
		return
	}
	r.ok("%s: pools %d, carriers %d", from, len(d.set.Pools), len(d.set.Carriers))
}

func (d *doctor) keyset(_ context.Context, r *report) {
	path := cmp.Or(d.set.Keyset, filepath.Join(d.set.DataDir, app.KeysetFile))
	keys, err := seal.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.bad(Fail, "set CALLMASK_KEYSET; `callmask keys add` makes a new one, `callmask all` as well", "there is no %s", path)
		return
	case err != nil:
		r.bad(Fail, "let it be owned by the user that runs callmask, mode 0600; restore it from a backup if it is damaged", "%s", oneLine(err))
		return
	}
	var primary time.Time
	for _, k := range keys.List() {
		if k.ID == keys.Primary().ID() {
			primary = k.Created
		}
	}
	r.ok("%s: keys %d, key %d is in use, since %s", path, len(keys.List()), keys.Primary().ID(), primary.UTC().Format(time.DateOnly))
}

// What a disk must have left: an append-only file that is written anew needs its size again.
const (
	diskWarn = 1 << 30
	diskFail = 100 << 20
	diskPart = 0.1
)

func (d *doctor) disk(_ context.Context, r *report) {
	if d.set.RedisURL != "" && d.set.NATSURL != "" {
		return // nothing of ours grows here
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.set.DataDir, &st); errors.Is(err, fs.ErrNotExist) {
		r.bad(Warn, "start `callmask all`, which makes it, or set CALLMASK_DATA_DIR", "there is no data directory %s", d.set.DataDir)
		return
	} else if err != nil {
		r.bad(Fail, "make the data directory readable", "%s: %v", d.set.DataDir, err)
		return
	}
	free, size := float64(st.Bavail)*float64(st.Bsize), float64(st.Blocks)*float64(st.Bsize)
	seen := func(s Status, do string) {
		r.bad(s, do, "%s: %.1f GiB of %.1f GiB are free", d.set.DataDir, free/(1<<30), size/(1<<30))
	}
	switch {
	case free < diskFail:
		seen(Fail, "make room: Redis and NATS stop to take orders when it is full")
	case free < diskWarn && free < size*diskPart:
		seen(Warn, "make room before it is full: Redis and NATS stop to take orders then")
	default:
		seen(OK, "")
	}
}

// running asks the private listener, whose answer names what is missing.
func (d *doctor) running(ctx context.Context, r *report) {
	host, port, err := net.SplitHostPort(d.set.AdminAddr)
	if err != nil {
		return // the settings' check has told it
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	at := "http://" + net.JoinHostPort(host, port)
	status, _, err := d.ask(ctx, http.MethodGet, at+"/readyz")
	switch {
	case err != nil:
		r.bad(Warn, "start it, or set CALLMASK_ADMIN_ADDR if it runs elsewhere", "nothing answers at %s: %v", at, err)
	case status == http.StatusOK:
		r.ok("one runs at %s and is ready", at)
	case status == http.StatusServiceUnavailable:
		r.bad(Fail, "see "+at+"/readyz and its log: it names what is missing", "the one at %s is not ready", at)
	default:
		r.bad(Warn, "set CALLMASK_ADMIN_ADDR", "what answers at %s is no callmask (HTTP %d)", at, status)
	}
}

// ask makes one request, without credentials, and returns the status and the server's time.
func (d *doctor) ask(ctx context.Context, method, url string) (status int, at time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return 0, at, errors.New("is no address")
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, at, unwrapURL(err)
	}
	defer func() { _ = res.Body.Close() }() // nothing of it is read
	at, err = http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		at = time.Time{} // it does not tell
	}
	return res.StatusCode, at, nil
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
