//go:build browser

package browser

import (
	"context"
	_ "embed" // axe
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience bounds each step: a step that takes longer fails.
const patience = 30 * time.Second

//go:embed testdata/axe.min.js
var axe string

// browser is one tab of a headless Chromium.
type browser struct {
	ctx  context.Context //nolint:containedctx // chromedp's handle of the tab
	base string          // of the console, with its last slash
	shot int

	mu       sync.Mutex
	mistakes []string // what the browser complained of
}

// open starts a Chromium, which must be installed.
func open(t *testing.T, base string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.WindowSize(1280, 900), chromedp.Flag("lang", "en-GB"))
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &browser{ctx: ctx, base: base}
	// The first action must have no deadline: it would be that of the whole browser.
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate("about:blank")), "is Chromium installed? `make deps-test` installs it")
	require.NoError(t, chromedp.Listen(ctx, b.hear))
	_, err := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	return b
}

// hear notes what the browser complains of.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.mistakes = append(b.mistakes, "exception: "+e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			b.mistakes = append(b.mistakes, string(e.Entry.Source)+": "+e.Entry.Text)
		}
	}
}

func (b *browser) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	require.NoError(t, chromedp.Do(ctx, steps...))
}

// visit loads a page of the console.
func (b *browser) visit(t *testing.T, path string) {
	t.Helper()
	b.do(t, chromedp.Navigate(b.base+path), chromedp.WaitReady(chromedp.CSS("main")))
}

// eval returns what a JavaScript expression gives; a promise is waited for.
func eval[T any](t *testing.T, b *browser, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(t, err)
	return out
}

// await waits until a JavaScript expression is true, also across the loading of pages,
// during which nothing can be evaluated.
func (b *browser) await(t *testing.T, what, expression string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression, chromedp.EvalAwaitPromise)); err == nil && yes {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.Fail(t, "not in time: "+what, "the page says: %s", b.words(t))
		}
	}
}

// says waits until the page shows a text.
func (b *browser) says(t *testing.T, text string) {
	t.Helper()
	b.await(t, text, fmt.Sprintf("document.readyState === 'complete' && document.body.innerText.includes(%q)", text))
}

func (b *browser) words(t *testing.T) string {
	t.Helper()
	return eval[string](t, b, "document.body ? document.body.innerText : ''")
}

// click clicks on a link or button by its words, and waits for the page that it leads to:
// words that the old page says too must not be taken for the new one's, and a visit must
// not cross a page that is still coming.
func (b *browser) click(t *testing.T, words string) {
	t.Helper()
	path := fmt.Sprintf(`//main//*[self::a or self::button][normalize-space()=%q]`, words)
	b.await(t, words+" to click on", fmt.Sprintf(`(() => {
		const found = document.evaluate(%q, document, null, XPathResult.FIRST_ORDERED_NODE_TYPE).singleNodeValue;
		if (found) window.clickedAway = true;
		return document.readyState === "complete" && !!found;
	})()`, path))
	b.do(t, chromedp.Click(chromedp.Search(path)))
	b.await(t, "the page behind "+words, `!("clickedAway" in window) && document.readyState === "complete"`)
}

// fill types into fields by their names.
func (b *browser) fill(t *testing.T, pairs ...string) {
	t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		field := fmt.Sprintf(`main [name=%q]`, pairs[i])
		b.await(t, "the field "+pairs[i], fmt.Sprintf(`(() => { const f = document.querySelector(%q); if (f) f.value = ""; return !!f; })()`, field))
		b.do(t, chromedp.SendKeys(chromedp.CSS(field), pairs[i+1]))
	}
}

// light switches between the light and the dark colours.
func (b *browser) light(t *testing.T, on bool) {
	t.Helper()
	value := "dark"
	if on {
		value = "light"
	}
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
	})
	require.NoError(t, err)
}

// screenshot keeps a picture of the page.
func (b *browser) screenshot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("CALLMASK_SCREENSHOTS")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin", "screenshots")
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	require.NoError(t, err)
	b.shot++
	require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d-%s.png", b.shot, name)), png, 0o600))
}

// violation is one rule of axe that a page breaks.
type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML string `json:"html"`
		Why  string `json:"failureSummary"`
	} `json:"nodes"`
}

// accessible holds the page against axe's rules and fails on every violation.
func (b *browser) accessible(t *testing.T) {
	t.Helper()
	eval[int](t, b, axe+";0")
	for _, v := range eval[[]violation](t, b, `axe.run(document).then((r) => r.violations)`) {
		for _, n := range v.Nodes {
			t.Errorf("%s: axe %s (%s): %s\n%s", eval[string](t, b, "location.pathname"), v.ID, v.Help, n.HTML, n.Why)
		}
	}
}

// fits fails when a page is wider than the screen.
func (b *browser) fits(t *testing.T) {
	t.Helper()
	wide := eval[[]int](t, b, "[document.documentElement.scrollWidth, innerWidth]")
	require.LessOrEqual(t, wide[0], wide[1], "%s is wider than the screen", eval[string](t, b, "location.pathname"))
}

// complaints returns what the browser complained of since the last call; resources that
// could not be had count only when the caller wants them.
func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, m := range b.mistakes {
		if !strings.HasPrefix(m, "network: ") {
			list = append(list, m)
		}
	}
	b.mistakes = nil
	return list
}
