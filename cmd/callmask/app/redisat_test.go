package app_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/cmd/callmask/app"
	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/internal/cluster"
	"github.com/callmask/callmask/internal/testkit"
	"github.com/callmask/callmask/scripts"
	"github.com/callmask/callmask/seal"
	"github.com/callmask/callmask/vn"
)

// sentinel watches over a master and returns its address.
func sentinel(t *testing.T, master string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(master)
	require.NoError(t, err)
	ports, err := cluster.FreePorts(t.Context(), 1)
	require.NoError(t, err)
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, `bind 127.0.0.1
port %d
sentinel monitor mymaster %s %s 1
sentinel down-after-milliseconds mymaster 1000
sentinel failover-timeout mymaster 5000
`, ports[0], host, port), 0o600))
	path, err := exec.LookPath("redis-server")
	require.NoError(t, err)
	p := cluster.NewProcess("sentinel", path, []string{conf, "--sentinel"}, nil)
	require.NoError(t, p.Start())
	t.Cleanup(p.Kill)
	return "127.0.0.1:" + strconv.Itoa(ports[0])
}

// TestASentinelFailoverIsFollowed runs a router on a master that a Sentinel watches over.
// When the master dies, calls are answered by its replica at once, and orders by the new
// master as soon as there is one.
func TestASentinelFailoverIsFollowed(t *testing.T) {
	master := testkit.Redis(t)
	host, port, err := net.SplitHostPort(master.Addr)
	require.NoError(t, err)
	replica := testkit.Redis(t, "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	watcher := sentinel(t, master.Addr)
	sentinels := redis.NewSentinelClient(&redis.Options{Addr: watcher, DisableIdentity: true})
	t.Cleanup(func() { _ = sentinels.Close() })
	require.Eventually(t, func() bool {
		replicas, err := sentinels.Replicas(t.Context(), "mymaster").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	}, patience, tick)

	at := "redis://" + watcher + "?master_name=mymaster"
	keyset := filepath.Join(t.TempDir(), "keyset.json")
	keys, err := seal.Create(keyset)
	require.NoError(t, err)
	client, err := app.NewRedis(settings.RedisAt{URL: at}, 2*time.Second, 4)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	store, err := scripts.New(scripts.Config{}, client, keys)
	require.NoError(t, err)
	ofAgent := firstOrder(t, store)
	require.NoError(t, master.Client(t).Do(t.Context(), "wait", 1, 5000).Err())

	r := start(t, app.Config{Role: settings.Router, Logger: zerolog.Nop(), Settings: load(t, map[string]string{
		"redis-url": at, "nats-url": "nats://127.0.0.1:1", "keyset": keyset, "api-token": token, "resolve-timeout": "2s",
	})})
	resolve := func() (int, string) {
		return get(t, "http://"+r.at.HTTP+"/v1/resolve?"+url.Values{"called": {ofAgent}, "calling": {"+12025550101"}, "call_id": {"1"}}.Encode(), token)
	}
	status, body := resolve()
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"connect"`)
	require.Eventually(t, func() bool { // the replica has it
		info, err := replica.Client(t).Info(t.Context(), "replication").Result()
		return err == nil && info != "" && replica.Client(t).DBSize(t.Context()).Val() == master.Client(t).DBSize(t.Context()).Val()
	}, patience, tick)

	master.Kill()
	for range 20 {
		status, body = resolve()
		require.Equal(t, http.StatusOK, status, body)
		require.Contains(t, body, `"connect"`)
	}
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := store.Release(ctx, "order-1", vn.Completed)
		return err == nil
	}, patience, tick, "the client finds the new master")
	require.Eventually(t, func() bool {
		_, body := resolve()
		return body != "" && !strings.Contains(body, `"connect"`) && strings.Contains(body, "order_ended")
	}, patience, tick)
	require.NoError(t, r.stop())
}

// firstOrder fills a pool and gives order-1 its VNs; it returns the agent's.
func firstOrder(t *testing.T, store *scripts.Store) string {
	t.Helper()
	require.NoError(t, store.Start(t.Context()))
	require.NoError(t, store.MarkReady(t.Context()))
	var owned []scripts.Owned
	for i := range 64 {
		owned = append(owned, scripts.Owned{VN: 447700900001 + vn.Number(i), Fence: uint64(i + 1)})
	}
	_, err := store.Refill(t.Context(), "london", "sim", owned)
	require.NoError(t, err)
	a, err := store.Allocate(t.Context(), scripts.AllocateRequest{
		Order: vn.Order{ID: "order-1", Pool: "london", TTL: time.Hour, Parties: []vn.Party{
			{Role: "customer", Number: 12025550101}, {Role: "agent", Number: 12025550102},
		}},
		Cooldown: time.Second, Carriers: []scripts.Carrier{{Name: "sim", ID: 7}},
	})
	require.NoError(t, err)
	return a.Assignment.Parties[1].VN.E164()
}

// authority makes certificates.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.key = key
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	require.NoError(t, err)
	a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue writes <name>.pem and <name>.key for an address or a host name.
func (a *authority) issue(t *testing.T, name string, ip net.IP, host string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip != nil {
		c.IPAddresses = []net.IP{ip}
	}
	if host != "" {
		c.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	a.write(t, name+".pem", "CERTIFICATE", der)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	a.write(t, name+".key", "PRIVATE KEY", der)
}

// tlsServer starts a redis-server that wants a certificate of the authority's, alone or
// as a Cluster of one node, and returns the address of its TLS port.
func tlsServer(t *testing.T, a *authority, certificate string, clustered bool) string {
	t.Helper()
	ports, err := cluster.FreePorts(t.Context(), 2)
	require.NoError(t, err)
	port, bus := strconv.Itoa(ports[0]), strconv.Itoa(ports[1])
	args := []string{
		"--tls-port", port, "--tls-cert-file", a.path(certificate + ".pem"), "--tls-key-file", a.path(certificate + ".key"),
		"--tls-ca-cert-file", a.path("ca.pem"), "--tls-auth-clients", "yes",
	}
	if clustered {
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-announce-ip", "127.0.0.1", "--tls-cluster", "yes")
	}
	client := testkit.Redis(t, args...).Client(t)
	if clustered {
		require.NoError(t, client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
		require.Eventually(t, func() bool {
			return strings.Contains(client.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
		}, patience, tick)
	}
	return "127.0.0.1:" + port
}

// TestRedisIsReachedOverTLS pins which certificates are asked for and shown, on a single
// Redis and on a Cluster, whose node is known by the address that the Cluster tells.
func TestRedisIsReachedOverTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "server", net.IPv4(127, 0, 0, 1), "")
	a.issue(t, "named", nil, "redis.example")
	a.issue(t, "client", nil, "client")
	with := settings.RedisTLS{CAFile: a.path("ca.pem"), CertFile: a.path("client.pem"), KeyFile: a.path("client.key")}
	single, named, clustered := tlsServer(t, a, "server", false), tlsServer(t, a, "named", false), tlsServer(t, a, "server", true)
	edit := func(f func(*settings.RedisTLS)) settings.RedisTLS { c := with; f(&c); return c }
	for name, c := range map[string]struct {
		addr, parameters string
		tls              settings.RedisTLS
		want             string // of the error; empty: none
	}{
		"single":                 {single, "", with, ""},
		"cluster":                {clustered, "?cluster=true", with, ""},
		"another name":           {named, "", edit(func(c *settings.RedisTLS) { c.ServerName = "redis.example" }), ""},
		"not that name":          {named, "", with, "certificate"},
		"unknown authority":      {single, "", edit(func(c *settings.RedisTLS) { c.CAFile = "" }), "certificate"},
		"no certificate":         {single, "", edit(func(c *settings.RedisTLS) { c.CertFile, c.KeyFile = "", "" }), ""},
		"no such authority":      {single, "", edit(func(c *settings.RedisTLS) { c.CAFile = a.path("none.pem") }), "CALLMASK_REDIS_CA_FILE: cannot read"},
		"a key for an authority": {single, "", edit(func(c *settings.RedisTLS) { c.CAFile = a.path("client.key") }), "CALLMASK_REDIS_CA_FILE: "},
		"another's key":          {single, "", edit(func(c *settings.RedisTLS) { c.KeyFile = a.path("server.key") }), "CALLMASK_REDIS_CERT_FILE: "},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := app.NewRedis(settings.RedisAt{URL: "rediss://" + c.addr + c.parameters, TLS: c.tls}, 5*time.Second, 4)
			if err == nil {
				t.Cleanup(func() { _ = client.Close() })
				if name == "no certificate" {
					require.Error(t, client.Ping(t.Context()).Err())
					return
				}
				if c.want != "" {
					require.ErrorContains(t, client.Ping(t.Context()).Err(), c.want)
					return
				}
				keys, err := seal.Create(filepath.Join(t.TempDir(), "keyset"))
				require.NoError(t, err)
				store, err := scripts.New(scripts.Config{}, client, keys)
				require.NoError(t, err)
				require.NotEmpty(t, firstOrder(t, store))
				return
			}
			require.NotEmpty(t, c.want, err)
			require.ErrorContains(t, err, c.want)
		})
	}
}
