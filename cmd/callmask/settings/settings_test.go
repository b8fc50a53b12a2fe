package settings

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

const valid = `pools:
  - name: jakarta
    region: ID
    carriers: [twilio, pbx]
    low_water: 200
    target: 400
    max: 2000
    cooldown: 10m
    ttl: {default: 2h, max: 24h}
    assign_wait: 60s
    destinations: [ID, SG]
carriers:
  - name: twilio
    kind: twilio
    account_sid: ${TWILIO_ACCOUNT_SID}
    auth_tokens: ["${TWILIO_AUTH_TOKEN}"]
    public_url: https://calls.example.com/
  - {name: pbx, kind: softswitch, tokens: ["pbx-token-1"], id: 7}
`

var twilioEnv = map[string]string{
	"TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
	"TWILIO_AUTH_TOKEN":  "fedcba9876543210fedcba9876543210",
}

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		s, ok := vars[name]
		return s, ok
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "callmask.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestLoadReadsTheWholeFile(t *testing.T) {
	t.Parallel()
	s, err := Load(Input{Flags: map[string]string{"config": write(t, valid)}, Env: env(twilioEnv)})
	require.NoError(t, err)
	require.Equal(t, []Pool{{
		Name: "jakarta", Region: "ID", Carriers: []string{"twilio", "pbx"}, LowWater: 200, Target: 400, Max: 2000,
		Cooldown: 10 * time.Minute, TTLDefault: 2 * time.Hour, TTLMax: 24 * time.Hour, AssignWait: time.Minute,
		Destinations: []string{"ID", "SG"}, Forecast: true, SurplusAfter: 24 * time.Hour,
	}}, s.Pools)
	seven := 7
	require.Equal(t, []Carrier{
		{ID: DefaultID("twilio"), CarrierKeys: CarrierKeys{
			Name: "twilio", Kind: Twilio, AccountSID: twilioEnv["TWILIO_ACCOUNT_SID"],
			AuthTokens: []string{twilioEnv["TWILIO_AUTH_TOKEN"]}, PublicURL: "https://calls.example.com", APIURL: "https://api.twilio.com",
		}},
		{ID: 7, CarrierKeys: CarrierKeys{Name: "pbx", Kind: Softswitch, ID: &seven, Tokens: []string{"pbx-token-1"}}},
	}, s.Carriers)
	p, ok := s.Pool("jakarta")
	require.True(t, ok)
	require.Equal(t, "ID", p.Region)
	_, ok = s.Pool("bandung")
	require.False(t, ok)
}

func TestEveryPoolKeyButNameAndRegionHasADefault(t *testing.T) {
	t.Parallel()
	path := write(t, "pools:\n- {name: a, region: GB}\n- {name: b, region: GB, carriers: [pbx]}\n- {name: c, region: GB, carriers: [pbx], target: 20}\n"+
		"- {name: d, region: GB, carriers: [pbx], max: 50}\n- {name: e, region: GB, ttl: {max: 1h}}\n"+
		"carriers: [{name: pbx, kind: softswitch, tokens: [pbx-token-1]}]\n")
	s, err := Load(Input{Flags: map[string]string{"config": path}, Env: env(nil)})
	require.NoError(t, err)
	require.Equal(t, Pool{
		Name: "a", Region: "GB", Max: 2000, Cooldown: 10 * time.Minute, TTLDefault: 2 * time.Hour, TTLMax: 24 * time.Hour,
		AssignWait: time.Minute, Destinations: []string{"GB"}, Forecast: true, SurplusAfter: 24 * time.Hour,
	}, s.Pools[0], "without a carrier nothing is bought")
	floors := func(p Pool) [3]int { return [3]int{p.LowWater, p.Target, p.Max} }
	require.Equal(t, [3]int{200, 400, 2000}, floors(s.Pools[1]))
	require.Equal(t, [3]int{10, 20, 2000}, floors(s.Pools[2]))
	require.Equal(t, [3]int{50, 50, 50}, floors(s.Pools[3]))
	require.Equal(t, time.Hour, s.Pools[4].TTLDefault)
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	t.Parallel()
	path := write(t, "http_addr: 127.0.0.1:1\nadmin_addr: 127.0.0.1:2\nlog_level: warn\nnats_replicas: 3\n")
	s, err := Load(Input{
		Flags: map[string]string{"config": path, "http-addr": ":11"},
		Env:   env(map[string]string{"CALLMASK_HTTP_ADDR": ":12", "CALLMASK_ADMIN_ADDR": ":13", "CALLMASK_LOG_LEVEL": ""}),
	})
	require.NoError(t, err)
	require.Equal(t, ":11", s.HTTPAddr)
	require.Equal(t, "--http-addr", s.Origin("http_addr"))
	require.Equal(t, ":13", s.AdminAddr)
	require.Equal(t, "CALLMASK_ADMIN_ADDR", s.Origin("admin_addr"))
	require.Equal(t, zerolog.WarnLevel, s.LogLevel, "an empty variable is not set")
	require.Equal(t, "callmask.yaml:3: log_level", s.Origin("log_level"))
	require.Equal(t, 3, s.NATSReplicas)
	require.Equal(t, 25*time.Hour, s.Tombstone)
	require.Equal(t, "default", s.Origin("tombstone"))
}

func TestAMistakeIsOneLineThatNamesTheSetting(t *testing.T) {
	t.Parallel()
	pool := func(more string) string { return "pools:\n- name: a\n  region: GB\n" + more }
	carrier := func(s string) string { return "carriers:\n- " + s + "\n" }
	for name, c := range map[string]struct {
		file  string
		env   map[string]string
		flags map[string]string
		want  string
	}{
		"address in the environment": {env: map[string]string{"CALLMASK_HTTP_ADDR": "8080"}, want: `CALLMASK_HTTP_ADDR: "8080" is not an address`},
		"port":                       {flags: map[string]string{"admin-addr": ":70000"}, want: `--admin-addr: ":70000" has no port`},
		"address in the file":        {file: "log_level: info\nhttp_addr: x\n", want: `callmask.yaml:2: http_addr: "x" is not an address`},
		"level":                      {env: map[string]string{"CALLMASK_LOG_LEVEL": "loud"}, want: `CALLMASK_LOG_LEVEL: "loud" is not one of`},
		"short tombstone":            {file: "tombstone: 23h\n", want: "callmask.yaml:1: tombstone: 23h is not between 24h1m and"},
		"redis url":                  {env: map[string]string{"CALLMASK_REDIS_URL": "http://hunter2@x"}, want: "CALLMASK_REDIS_URL: is not a URL"},
		"redis database":             {env: map[string]string{"CALLMASK_REDIS_URL": "redis://x/2?cluster=true"}, want: "CALLMASK_REDIS_URL: names a database"},
		"nats url":                   {env: map[string]string{"CALLMASK_NATS_URL": "http://hunter2@x"}, want: "CALLMASK_NATS_URL: must start with nats://"},
		"short token":                {env: map[string]string{"CALLMASK_API_TOKEN": "hunter2"}, want: "CALLMASK_API_TOKEN: must have at least 8"},
		"redis sentinels":            {env: map[string]string{"CALLMASK_REDIS_URL": "redis://x:26379?master_name=m&cluster=true"}, want: "CALLMASK_REDIS_URL: has both ?master_name= and ?cluster=true"},
		"redis ca":                   {env: map[string]string{"CALLMASK_REDIS_URL": "redis://x", "CALLMASK_REDIS_CA_FILE": "ca.pem"}, want: "CALLMASK_REDIS_CA_FILE: is for addresses that begin with rediss://"},
		"redis certificate":          {env: map[string]string{"CALLMASK_REDIS_URL": "rediss://x", "CALLMASK_REDIS_CERT_FILE": "c.pem"}, want: "CALLMASK_REDIS_KEY_FILE: is not set"},
		"open redis":                 {env: map[string]string{"CALLMASK_EMBEDDED_REDIS_ADDR": ":6390"}, want: "CALLMASK_EMBEDDED_REDIS_ADDR: :6390 is reachable from other machines, so CALLMASK_EMBEDDED_REDIS_PASSWORD must be set"},
		"open nats":                  {env: map[string]string{"CALLMASK_EMBEDDED_NATS_ADDR": "0.0.0.0:4222"}, want: "CALLMASK_EMBEDDED_NATS_ADDR: 0.0.0.0:4222 is reachable"},
		"no such file":               {env: map[string]string{"CALLMASK_CONFIG": "/nowhere/x.yaml"}, want: "CALLMASK_CONFIG: cannot read /nowhere/x.yaml: no such file"},
		"syntax":                     {file: "pools: [\n", want: "callmask.yaml:1: is not valid YAML"},
		"two documents":              {file: "log_level: info\n---\nlog_level: warn\n", want: "more than one YAML document"},
		"a list on top":              {file: "- a\n", want: "callmask.yaml:1: must start with keys"},
		"unknown key on top":         {file: "\npool: []\n", want: "callmask.yaml:2: pool: is no setting; did you mean pools?"},
		"unknown key of a pool":      {file: pool("  cooldwon: 1m\n"), want: "callmask.yaml:4: pools[0].cooldwon is no setting; did you mean cooldown?"},
		"unknown key of a ttl":       {file: pool("  ttl: {least: 1m}\n"), want: "callmask.yaml:4: pools[0].ttl.least is no setting"},
		"unknown key of a carrier":   {file: carrier("{name: a, kind: sim, token: x}"), want: "callmask.yaml:2: carriers[0].token is no setting; did you mean tokens?"},
		"the same key twice":         {file: "log_level: info\nlog_level: warn\n", want: "callmask.yaml:2: is not valid YAML"},
		"a word for a number":        {file: pool("  max: many\n"), want: "callmask.yaml:4: pools[0].max must be a whole number"},
		"a fraction":                 {file: pool("  max: 1.5\n"), want: "callmask.yaml:4: pools[0].max: must not be a fraction"},
		"unquoted variable":          {file: "pools: []\ncarriers: [{name: ${A}}]\n", want: "callmask.yaml:2: is not valid YAML"},
		"a value for a list":         {file: pool("  carriers: {a: b}\n"), want: "callmask.yaml:4: pools[0].carriers"},
		"an anchor":                  {file: "pools:\n- &a {name: a, region: GB}\n", want: "callmask.yaml:2: pools[0]: uses a YAML anchor"},
		"unset variable":             {file: carrier(`{name: a, kind: softswitch, tokens: ["${PBX_TOKEN}"]}`), want: "callmask.yaml:2: carriers[0].tokens[0]: needs the environment variable PBX_TOKEN, which is not set"},
		"open variable":              {file: carrier(`{name: a, kind: softswitch, tokens: ["${PBX"]}`), want: "carriers[0].tokens[0]: has ${ without }"},
		"no variable":                {file: carrier(`{name: a, kind: softswitch, tokens: ["${a b}"]}`), want: "carriers[0].tokens[0]: has ${a b}, which is no variable's name"},
		"pool without a name":        {file: "pools: [{region: GB}]", want: "pools[0].name: is missing"},
		"pool with a bad name":       {file: "pools: [{name: Big Pool, region: GB}]", want: "pools[0].name: may hold only a-z 0-9 _ -"},
		"two pools of one name":      {file: "pools: [{name: a, region: GB}, {name: a, region: GB}]", want: `pools[1].name: "a" is also the name of pools[0]`},
		"no region":                  {file: "pools: [{name: a}]", want: "pools[0].region: is missing"},
		"no such region":             {file: "pools: [{name: a, region: XX}]", want: "pools[0].region: "},
		"no such destination":        {file: pool("  destinations: [GB, Narnia]\n"), want: "callmask.yaml:4: pools[0].destinations[1]: "},
		"destination twice":          {file: pool("  destinations: [GB, GB]\n"), want: `pools[0].destinations[1]: "GB" is listed twice`},
		"unknown carrier":            {file: pool("  carriers: [nobody]\n"), want: `callmask.yaml:4: pools[0].carriers[0]: "nobody" is not the name of a carrier`},
		"low water above target":     {file: pool("  low_water: 5\n  target: 4\n"), want: "callmask.yaml:4: pools[0].low_water: is 5, above target (4)"},
		"target above max":           {file: pool("  target: 5\n  max: 4\n"), want: "callmask.yaml:4: pools[0].target: is 5, above max (4)"},
		"negative low water":         {file: pool("  low_water: -1\n"), want: "pools[0].low_water: must be between 0"},
		"max of nothing":             {file: pool("  max: 0\n"), want: "pools[0].max: must be between 1"},
		"short cooldown":             {file: pool("  cooldown: 999ms\n"), want: "callmask.yaml:4: pools[0].cooldown: 999ms is not between 1s and"},
		"no duration":                {file: pool("  cooldown: soon\n"), want: `callmask.yaml:4: pools[0].cooldown: "soon" is not a duration`},
		"a number for a duration":    {file: pool("  cooldown: 600\n"), want: `callmask.yaml:4: pools[0].cooldown: "600" is not a duration`},
		"ttl above max":              {file: pool("  ttl: {default: 2h, max: 1h}\n"), want: "callmask.yaml:4: pools[0].ttl.default: is 2h, above ttl.max (1h)"},
		"no ttl":                     {file: pool("  ttl: {default: 0s}\n"), want: "pools[0].ttl.default: 0s is not between"},
		"negative wait":              {file: pool("  assign_wait: -1s\n"), want: "pools[0].assign_wait: -1s is not between 1ms and 12h"},
		"no wait":                    {file: pool("  assign_wait: 0s\n"), want: "pools[0].assign_wait: 0s is not between 1ms and 12h"},
		"carrier without kind":       {file: carrier("{name: a}"), want: "carriers[0].kind: is missing"},
		"carrier of no kind":         {file: carrier("{name: a, kind: pigeon}"), want: `carriers[0].kind: "pigeon" is not a kind`},
		"two carriers of one name":   {file: "carriers:\n- {name: a, kind: softswitch, tokens: [token-number-1]}\n- {name: a, kind: softswitch, tokens: [token-number-2]}\n", want: `callmask.yaml:3: carriers[1].name: "a" is also`},
		"two carriers of one id":     {file: "carriers:\n- {name: a, kind: softswitch, id: 5, tokens: [token-number-1]}\n- {name: b, kind: softswitch, id: 5, tokens: [token-number-2]}\n", want: "callmask.yaml:3: carriers[1].id: 5 is also the id of carriers[0] (a)"},
		"two carriers of one token":  {file: "carriers:\n- {name: a, kind: softswitch, tokens: [token-number-1]}\n- {name: b, kind: softswitch, tokens: [token-number-1]}\n", want: "callmask.yaml:3: carriers[1].tokens: holds a token"},
		"id out of range":            {file: carrier("{name: a, kind: softswitch, id: 256, tokens: [token-number-1]}"), want: "carriers[0].id: must be between 0 and 255"},
		"key of another kind":        {file: carrier("{name: a, kind: softswitch, secrets: [token-number-1]}"), want: "callmask.yaml:2: carriers[0].secrets: does not go with kind softswitch"},
		"softswitch without token":   {file: carrier("{name: a, kind: softswitch}"), want: "carriers[0].tokens: is missing"},
		"secret in a path":           {file: carrier("{name: a, kind: sim, secrets: [hunter/2hunter2], api_url: 'http://x'}"), want: "carriers[0].secrets[0]: may hold only"},
		"sim without an address":     {file: carrier("{name: a, kind: sim, secrets: [hunter2hunter2]}"), want: "carriers[0].api_url: is missing"},
		"sim for everybody":          {file: carrier("{name: a, kind: sim, secrets: [hunter2hunter2], listen: ':1'}"), want: "carriers[0].listen: must be a loopback address"},
		"twilio without tokens":      {file: carrier("{name: a, kind: twilio, account_sid: AC0123456789abcdef0123456789abcdef, public_url: 'https://x.example'}"), want: "carriers[0].auth_tokens: "},
		"twilio without a url":       {file: carrier("{name: a, kind: twilio, account_sid: AC0123456789abcdef0123456789abcdef, auth_tokens: [hunter2hunter2]}"), want: "carriers[0].public_url: "},
		"twilio with a bad api url":  {file: carrier("{name: a, kind: twilio, account_sid: AC0123456789abcdef0123456789abcdef, auth_tokens: [hunter2hunter2], public_url: 'https://x.example', api_url: 'x'}"), want: "carriers[0].api_url: is not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := Input{Flags: map[string]string{}, Env: env(c.env)}
			for k, v := range c.flags {
				in.Flags[k] = v
			}
			if c.file != "" {
				in.Flags["config"] = write(t, c.file)
			}
			_, err := Load(in)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "hunter2", "an error repeats no secret")
		})
	}
}

func TestAVariableCannotChangeTheFilesStructure(t *testing.T) {
	t.Parallel()
	path := write(t, "carriers:\n- {name: a, kind: twilio, account_sid: AC0123456789abcdef0123456789abcdef, auth_tokens: ['${T}'], public_url: https://x.example, refusal: say, text: \"$${T}: ${T}\"}\n")
	s, err := Load(Input{Flags: map[string]string{"config": path}, Env: env(map[string]string{"T": `x", id: "9]`})})
	require.NoError(t, err)
	require.Equal(t, []string{`x", id: "9]`}, s.Carriers[0].AuthTokens)
	require.Equal(t, `${T}: x", id: "9]`, s.Carriers[0].Text)
}

func TestANumberMayComeFromAVariable(t *testing.T) {
	t.Parallel()
	path := write(t, "nats_replicas: ${P}\npools: [{name: a, region: GB, max: \"${MAX}\"}]\n")
	s, err := Load(Input{Flags: map[string]string{"config": path}, Env: env(map[string]string{"P": "5", "MAX": "77"})})
	require.NoError(t, err)
	require.Equal(t, 5, s.NATSReplicas)
	require.Equal(t, 77, s.Pools[0].Max)
}

func TestARoleRefusesToStartWithoutWhatItNeeds(t *testing.T) {
	t.Parallel()
	full := Settings{DataDir: "data", RedisURL: "redis://x", NATSURL: "nats://x", Keyset: "k", APIToken: "token-token", Pools: []Pool{{Name: "a"}}}
	for role, wants := range map[Role][]string{
		All:         {"CALLMASK_DATA_DIR: is not set", "pools: there is none"},
		Router:      {"CALLMASK_REDIS_URL: is not set", "CALLMASK_NATS_URL: is not set", "CALLMASK_KEYSET: is not set"},
		Allocator:   {"CALLMASK_REDIS_URL", "CALLMASK_NATS_URL", "CALLMASK_KEYSET", "CALLMASK_API_TOKEN", "pools: there is none"},
		Replenisher: {"CALLMASK_REDIS_URL", "CALLMASK_NATS_URL", "CALLMASK_KEYSET", "pools: there is none"},
	} {
		s := full
		require.NoError(t, s.Check(role), role)
		for _, want := range wants {
			s := full
			switch {
			case strings.Contains(want, "DATA_DIR"):
				s.DataDir = ""
			case strings.Contains(want, "REDIS"):
				s.RedisURL = ""
			case strings.Contains(want, "NATS"):
				s.NATSURL = ""
			case strings.Contains(want, "KEYSET"):
				s.Keyset = ""
			case strings.Contains(want, "TOKEN"):
				s.APIToken = ""
			default:
				s.Pools = nil
			}
			require.ErrorContains(t, s.Check(role), want, role)
		}
	}
}

func TestPrintHidesSecretsAndCanBeReadBack(t *testing.T) {
	t.Parallel()
	vars := map[string]string{
		"CALLMASK_REDIS_URL": "rediss://user:hunter2a@redis.example:6380,other.example:6380?master_name=m&sentinel_password=hunter2d", "CALLMASK_API_TOKEN": "hunter2-token",
		"CALLMASK_NATS_URL": "nats://hunter2b@nats.example:4222", "CALLMASK_NATS_TOKEN": "hunter2c",
	}
	for k, v := range twilioEnv {
		vars[k] = v
	}
	s, err := Load(Input{Flags: map[string]string{"config": write(t, valid)}, Env: env(vars)})
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, s.Print(&b))
	out := b.String()
	for _, secret := range []string{"hunter2", "pbx-token-1", twilioEnv["TWILIO_AUTH_TOKEN"]} {
		require.NotContains(t, out, secret)
	}
	require.Contains(t, out, "rediss://•••@redis.example:6380,other.example:6380?master_name=m&sentinel_password=•••")
	require.Regexp(t, `api_token: "?•••"? +# CALLMASK_API_TOKEN`, out)
	require.Regexp(t, `http_addr: ":8080" +# default`, out)
	require.Contains(t, out, "ttl: {default: 2h, max: 24h}")

	clean := strings.NewReplacer(`tokens: ["•••"]`, `tokens: ["hidden-too"]`, "•••", "hidden-away").Replace(out)
	again, err := Load(Input{Flags: map[string]string{"config": write(t, clean)}, Env: env(nil)})
	require.NoError(t, err)
	require.Equal(t, s.Pools, again.Pools)
}

func TestTheDemoSettingsAreRight(t *testing.T) {
	t.Parallel()
	s, err := Load(Input{Env: env(nil), Demo: true})
	require.NoError(t, err)
	require.NoError(t, s.Check(All))
	require.Equal(t, "demo", s.Pools[0].Name)
	require.NotEmpty(t, s.Carriers[0].Listen)
	require.Contains(t, string(Demo()), "name: demo")
}

func FuzzParse(f *testing.F) {
	f.Add(valid)
	f.Add("pools:\n- {name: a, region: GB, ttl: {default: 1h}}\n")
	f.Add("carriers: [{name: a, kind: sim, listen: 127.0.0.1:0}]")
	f.Add("a: ${b}\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parse("fuzz.yaml", []byte(text), env(twilioEnv))
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		carriers, err := file.carriers()
		if err == nil {
			_, _ = file.pools(carriers)
		}
	})
}

func TestEveryKindOfCarrierIsSpokenTo(t *testing.T) {
	t.Parallel()
	entries := map[Kind]string{
		Twilio:     `account_sid: ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, auth_tokens: [secret-1, secret-2], public_url: https://c.example/, media_text: no pictures, call_status: false`,
		Exotel:     `account_sid: acme, secrets: [0123456789abcdef], region: IN, public_url: https://c.example, fallback: true`,
		Plivo:      `auth_id: MAXXXXXXXXXXXXXXXXXX, auth_tokens: [secret-1], public_url: https://c.example, refusal: busy`,
		Vonage:     `api_key: abcd1234, secrets: [secret-of-vonage], public_url: https://c.example, text: sorry`,
		Telnyx:     `public_keys: ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="], refusal: say`,
		Jambonz:    `secrets: [wh_secret_0123456789], trunk: carrier1, refusal: say, text: sorry, language: en-GB`,
		Softswitch: `tokens: [pbx-token-1]`,
		Sim:        `secrets: [sim-secret-1], listen: "127.0.0.1:0"`,
	}
	for _, kind := range Kinds() {
		entry, ok := entries[kind]
		require.True(t, ok, "no case for kind %s", kind)
		file := write(t, "carriers: [{name: a, kind: "+string(kind)+", "+entry+"}]")
		s, err := Load(Input{Flags: map[string]string{"config": file}, Env: env(nil)})
		require.NoError(t, err, kind)
		codec, err := s.Carriers[0].Codec()
		require.NoError(t, err)
		require.NotNil(t, codec)
	}
}

func TestWhatAPoolMayCost(t *testing.T) {
	t.Parallel()
	load := func(keys string) (*Settings, error) {
		return Load(Input{Flags: map[string]string{"config": write(t, "pools: [{name: a, region: ID, "+keys+"}]")}, Env: env(nil)})
	}
	s, err := load(`monthly_cap: 500.50 USD, surplus_after: never, forecast: false`)
	require.NoError(t, err)
	require.Equal(t, "500.50 USD", s.Pools[0].MonthlyCap.String())
	require.Negative(t, s.Pools[0].SurplusAfter)
	require.False(t, s.Pools[0].Forecast)
	for keys, want := range map[string]string{
		`monthly_cap: 500`:         "callmask.yaml:1: pools[0].monthly_cap: must be an amount and a currency",
		`monthly_cap: 5,00 USD`:    "pools[0].",
		`monthly_cap: "1e3 USD"`:   "callmask.yaml:1: pools[0].monthly_cap: the amount must be digits",
		`surplus_after: sometimes`: "callmask.yaml:1: pools[0].surplus_after:",
		`surplus_after: 1s`:        "callmask.yaml:1: pools[0].surplus_after:",
	} {
		_, err := load(keys)
		require.ErrorContains(t, err, want, keys)
	}
}

func TestCarriersThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	const (
		twilio  = "kind: twilio, account_sid: ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, auth_tokens: [secret-1], public_url: https://c.example"
		vonage  = "kind: vonage, api_key: abcd1234"
		jambonz = "kind: jambonz, secrets: [wh_secret_0123456789]"
	)
	for entry, want := range map[string]string{
		twilio + ", text: sorry":                                               "refusal: must be say",
		twilio + ", fallback_url: nonsense":                                    "fallback_url: is not a URL",
		twilio + ", fallback_url: https://c.example/v1/carriers/a/voice":       "fallback_url: is this callmask again",
		vonage + ", secrets: [short]":                                          "secrets[0]: must have at least 8",
		vonage + ", secrets: [secret-of-vonage, secret-of-vonage]":             "secrets[1]: is listed twice",
		vonage + ", secrets: [secret-of-vonage], call_status: true":            "public_url: is missing",
		vonage + ", secrets: [secret-of-vonage], public_url: http://c.example": "public_url: must be https",
		jambonz + ", text: sorry":                                              "refusal: must be say",
		jambonz + ", refusal: busy, language: en-GB":                           "refusal: must be say",
		jambonz + ", refusal: decline":                                         "refusal: must be reject, busy or say",
		jambonz + ", refusal: say, text: \" \"":                                "text: holds nothing to speak",
	} {
		_, err := Load(Input{Flags: map[string]string{"config": write(t, "carriers: [{name: a, "+entry+"}]")}, Env: env(nil)})
		require.ErrorContains(t, err, "callmask.yaml:1: carriers[0]."+want, entry)
	}
	_, err := Load(Input{Flags: map[string]string{"config": write(t, "carriers: [{name: api, kind: softswitch, tokens: [pbx-token-1]}]")}, Env: env(nil)})
	require.ErrorContains(t, err, "carriers[0].name: ")
}

func TestTheAddressOfCallProgress(t *testing.T) {
	t.Parallel()
	off := false
	c := Carrier{CarrierKeys: CarrierKeys{Name: "a", Kind: Telnyx}}
	require.Empty(t, c.statusURL(), "nobody knows our address")
	c.PublicURL = "https://c.example"
	require.Equal(t, "https://c.example/v1/carriers/a/status", c.statusURL())
	c.Kind, c.Secrets = Exotel, []string{"s-1", "s-2"}
	require.Equal(t, "https://c.example/v1/carriers/a/status/s-1", c.statusURL())
	c.CallStatus = &off
	require.Empty(t, c.statusURL())
}
