package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/callmask/callmask/internal/testkit"
)

// A real bash at a real terminal: the script is sourced, lines are typed and Tab is pressed.
func TestBashCompletesCommandsFlagsAndValues(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "it's here") // a path that needs quotes
	require.NoError(t, os.Mkdir(dir, 0o700))
	binary := filepath.Join(dir, "callmask")
	require.NoError(t, os.Link(self, binary), "the test's binary is callmask, see TestMain")

	master, terminal := pty(t)
	bash := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile", "-i")
	bash.Stdin, bash.Stdout, bash.Stderr = terminal, terminal, terminal
	bash.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	bash.Env = []string{"PATH=" + os.Getenv("PATH"), "CALLMASK_TEST_MAIN=1", "PS1=$ ", "TERM=dumb", "HOME=" + dir, "INPUTRC=/dev/null"}
	require.NoError(t, bash.Start())
	require.NoError(t, terminal.Close())
	var screen testkit.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = screen.Write(buf[:n])
			if err != nil {
				return // bash has ended
			}
		}
	}()
	typed := func(keys, want string) {
		t.Helper()
		_, err := master.WriteString(keys)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return strings.Contains(screen.String(), want) }, patience, tick, "%s", &screen)
	}
	typed("source <('"+strings.ReplaceAll(binary, "'", `'\''`)+"' completion bash) && echo sour''ced\n", "sourced\r\n")
	typed("echo callmask; callmask who\t--rev\t", "whois --reveal ") // each by its first letters
	typed("\x15callmask pool plan -o y\t", "plan -o yaml ")
	typed("\x15callmask order \t\t", "extend")
	_, err = master.WriteString("\x15exit\n")
	require.NoError(t, err)
	require.NoError(t, bash.Wait())
	<-read
}

// pty opens a terminal: what a person would see and type, and what a program has of it.
func pty(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, master.Close()) })
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	return master, terminal
}

func TestEveryShellHasAScript(t *testing.T) {
	t.Parallel()
	e := &terminal{}
	self, err := os.Executable()
	require.NoError(t, err)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := e.done(t, "completion", shell)
		require.Contains(t, script, self)
		require.NotContains(t, script, "%")
	}
	require.Equal(t, ExitFailed, e.run(t, "completion", "tcsh").code)
}
