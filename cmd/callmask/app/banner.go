package app

import (
	"fmt"
	"strings"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/console"
)

func appendf(format string, v ...any) []byte { return fmt.Appendf(nil, format, v...) }

// banner tells people where everything is and what to try next.
func (a *App) banner() {
	if a.cfg.Banner == nil {
		return
	}
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-18s %s\n", name, value)
		}
	}
	fmt.Fprintf(&b, "\ncallmask %s is up\n", a.cfg.Role)
	if a.at.HTTP != "" {
		line("calls", "http://"+a.at.HTTP+"/v1/carriers/{name}/voice")
	}
	line("private API", "http://"+a.at.Admin)
	if a.cfg.Role != settings.Router {
		line("console", "http://"+a.at.Admin+console.Root)
	}
	line("API token", a.at.TokenFile)
	line("keyset", a.at.KeysetFile)
	line("Redis", settings.Redact(a.at.RedisURL))
	line("NATS", settings.Redact(a.at.NATSURL))
	if a.at.SimURL != "" {
		line("simulated carrier", a.at.SimURL)
	}
	if a.cfg.Role == settings.All {
		a.next(&b)
	}
	b.WriteByte('\n')
	if _, err := a.cfg.Banner.Write([]byte(b.String())); err != nil {
		a.log.Warn().Err(err).Msg("nobody reads the banner")
	}
}

// next suggests three things to try, ready to be copied.
func (a *App) next(b *strings.Builder) {
	var pool *settings.Pool
	for i := range a.set.Pools {
		if a.set.Pools[i].Region == "US" {
			pool = &a.set.Pools[i]
		}
	}
	flags := ""
	if a.at.Admin != "127.0.0.1:9090" {
		flags = " --admin-addr " + a.at.Admin
	}
	if a.at.TokenFile != "" && a.set.DataDir != "data" {
		flags += " --data-dir " + a.set.DataDir
	}
	bearer := "$CALLMASK_API_TOKEN" //nolint:gosec // the name of a variable, for people to copy
	if a.at.TokenFile != "" {
		bearer = "$(cat " + a.at.TokenFile + ")"
	}
	b.WriteString("\nThree things to try:\n")
	fmt.Fprintf(b, "  callmask pool list%s\n", flags)
	if pool == nil {
		fmt.Fprintf(b, "  curl http://%s/readyz\n  callmask config\n", a.at.Admin)
		return
	}
	fmt.Fprintf(b, "  callmask order put order-1 --pool %s customer=+12025550123 agent=+12025550145%s\n", pool.Name, flags)
	fmt.Fprintf(b, "  curl -H \"Authorization: Bearer %s\" \\\n    'http://%s/v1/resolve?called=%%2B<the agent VN>&calling=%%2B12025550123&call_id=1'\n", bearer, a.at.HTTP)
}
