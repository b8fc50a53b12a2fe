package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

const root = ".."

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```[ \t]*$")
	span    = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`!?\[[^\]]*\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
)

// Every link of every page to another file, and to a heading, leads somewhere. Links to
// other sites are not followed: a test must not depend on them.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	pages := pages(t)
	followed := 0
	for page, text := range pages {
		for _, l := range link.FindAllStringSubmatch(span.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(l[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			followed++
			at := page
			if target != "" {
				at = filepath.Join(filepath.Dir(page), target)
				_, err := os.Stat(filepath.Join(root, at))
				require.NoError(t, err, "%s: %s", page, l[0])
			}
			if anchor != "" && filepath.Ext(at) == ".md" {
				require.Contains(t, anchors(pages[at]), anchor, "%s: %s", page, l[0])
			}
		}
	}
	require.Greater(t, followed, 50)
}

// pages returns the Markdown files of the repository without their code blocks.
func pages(t *testing.T) map[string]string {
	t.Helper()
	list, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "*.md").Output()
	require.NoError(t, err)
	all := map[string]string{}
	for page := range strings.FieldsSeq(string(list)) {
		text, err := os.ReadFile(filepath.Join(root, page))
		if os.IsNotExist(err) {
			continue // deleted, not yet committed
		}
		require.NoError(t, err)
		all[page] = fence.ReplaceAllString(string(text), "")
	}
	return all
}

// anchors returns what the headings of a page can be linked as: in small letters, spaces
// as hyphens, other signs left out.
func anchors(text string) []string {
	var all []string
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			default:
				return -1
			}
		}, h[1]))
	}
	return all
}
