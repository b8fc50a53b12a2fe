package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/callmask/callmask/internal/installation"
)

// banner tells people where everything is and what to try next.
func banner(out io.Writer, in *installation.Installation, masters int, callmask string) {
	fmt.Fprintf(out, "\nA callmask of many processes is up\n")
	line := func(name, at string, pid int) { fmt.Fprintf(out, "  %-16s %-26s pid %d\n", name, at, pid) }
	for i, n := range in.Redis.Nodes() {
		name := "Redis master"
		if i >= masters {
			name = "Redis replica"
		}
		line(name, n.Addr, n.Pid())
	}
	for _, n := range in.NATS.Nodes() {
		line("NATS "+n.Name(), n.URL, n.Pid())
	}
	for _, r := range in.Roles {
		if r.HTTP != "" {
			line(r.Name(), "http://"+r.HTTP, r.Pid())
		} else {
			line(r.Name(), "http://"+r.Admin, r.Pid())
		}
	}
	token := filepath.Join(in.Dir, "api-token")
	fmt.Fprintf(out, "  %-16s %s\n  %-16s %s\n", "settings", in.SettingsFile(), "API token", token)
	router := in.Routers()[len(in.Routers())-1]
	fmt.Fprintf(out, `
Three things to try, in another terminal:
  %s order put order-1 --pool %s customer=+12025550123 agent=+12025550145 --admin-addr %s --data-dir %s
  curl -H "Authorization: Bearer $(cat %s)" \
    'http://%s/v1/resolve?called=%%2B<the agent VN>&calling=%%2B12025550123&call_id=1'
  kill -9 <pid of a Redis master>    # and ask again, at once and as often as you like

`, callmask, installation.Pool, in.Allocators()[0].Admin, in.Dir, token, router.HTTP)
}
