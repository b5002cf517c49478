// Package container_test checks the Dockerfile and the Compose file in examples
// with Docker's own parsers, and does what they say as far as that goes without
// an engine. It is a module of its own for what it imports.
package container_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const (
	top        = "../.." // what the image is built from
	dockerfile = top + "/examples/Dockerfile"
)

// parse reads a Dockerfile; warnings are what Docker's linter has against it.
func parse(t *testing.T, r io.Reader) (stages []instructions.Stage, warnings []string) {
	t.Helper()
	parsed, err := parser.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		warnings = append(warnings, w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, text string, at []parser.Range) {
		warnings = append(warnings, fmt.Sprintf("%s: %s %v", rule, text, at))
	}})
	stages, _, err = instructions.Parse(parsed.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	return stages, warnings
}

// image is what a stage leaves behind: files under root, and how to run them.
type image struct {
	t          *testing.T
	root       string
	workdir    string
	user       string
	volumes    []string
	ports      []string
	entrypoint []string
	cmd        []string
	health     []string
}

// build does a stage's instructions in its order. Its RUN lines run on this
// machine, in the stage's WORKDIR under root.
func build(t *testing.T, stage instructions.Stage, earlier map[string]*image) *image {
	t.Helper()
	i := &image{t: t, root: t.TempDir()}
	for _, command := range stage.Commands {
		switch c := command.(type) {
		case *instructions.WorkdirCommand:
			i.workdir = c.Path
			i.must(os.MkdirAll(i.path("."), 0o755))
		case *instructions.CopyCommand:
			i.copy(c, earlier)
		case *instructions.RunCommand:
			i.run(c)
		case *instructions.UserCommand:
			i.user = c.User
		case *instructions.VolumeCommand:
			i.volumes = append(i.volumes, c.Volumes...)
		case *instructions.ExposeCommand:
			i.ports = append(i.ports, c.Ports...)
		case *instructions.EntrypointCommand:
			i.entrypoint = exact(t, c.ShellDependantCmdLine)
		case *instructions.CmdCommand:
			i.cmd = exact(t, c.ShellDependantCmdLine)
		case *instructions.HealthCheckCommand:
			if c.Health.Test[0] != "CMD" {
				t.Fatalf("HEALTHCHECK wants a shell, and the image has none: %q", c.Health.Test)
			}
			i.health = c.Health.Test[1:]
		default:
			t.Fatalf("the test does not know %s", command.Name())
		}
	}
	return i
}

// exact is a command line that takes no shell, which the image does not have.
func exact(t *testing.T, c instructions.ShellDependantCmdLine) []string {
	t.Helper()
	if c.PrependShell {
		t.Fatalf("%q wants a shell", c.CmdLine)
	}
	return c.CmdLine
}

func (i *image) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

// path is where a path of the image is here.
func (i *image) path(p string) string {
	if !filepath.IsAbs(p) {
		p = filepath.Join("/", i.workdir, p)
	}
	return filepath.Join(i.root, p)
}

func (i *image) copy(c *instructions.CopyCommand, earlier map[string]*image) {
	i.t.Helper()
	for _, source := range c.SourcePaths {
		from := filepath.Join(top, source)
		if c.From != "" {
			from = earlier[c.From].path(source)
			if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
				from = source // of the base image, which is much like this machine
			}
		}
		to := i.path(c.DestPath)
		switch {
		case source == ".":
			// As Dockerfile.dockerignore has it, there is no repository in it.
			i.shell(top, "git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t '"+to+"'")
		case strings.HasSuffix(c.DestPath, "/"):
			i.shell(".", "mkdir -p '"+to+"' && cp -r '"+from+"' '"+to+"'")
		default:
			i.shell(".", "mkdir -p '"+filepath.Dir(to)+"' && cp -rT '"+from+"' '"+to+"'")
		}
		if c.Chown != "" {
			i.shell(".", "chown -R "+c.Chown+" '"+to+"'")
		}
	}
}

func (i *image) run(c *instructions.RunCommand) {
	i.t.Helper()
	i.shell(i.path("."), strings.Join(c.CmdLine, " "))
}

func (i *image) shell(dir, line string) {
	i.t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PWD="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		i.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// inside is the command line that runs another one in the image: its root is
// read-only, all that can be written are its volumes, and its user has no
// capability. Ports below 1024 are open to everybody, as in Docker.
func (i *image) inside(args ...string) *exec.Cmd {
	script := `
mount --bind "$1" "$1"
`
	for _, v := range i.volumes {
		script += `mount --bind "$1` + v + `" "$1` + v + "\"\n"
	}
	script += `mount -o remount,bind,ro "$1"
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
root=$1; shift
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid -- \
	chroot --userspec=` + i.user + ` --groups= "$root" "$@"
`
	cmd := exec.Command("/bin/sh", append([]string{"-ec", script, "sh", i.root}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	return cmd
}

func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	stages, warnings := parse(t, bytes.NewReader(text))
	if len(warnings) > 0 {
		t.Errorf("Docker warns: %q", warnings)
	}
	if _, warnings := parse(t, strings.NewReader("FROM scratch as X\nENTRYPOINT /x\n")); len(warnings) == 0 {
		t.Error("Docker warns of nothing")
	}

	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: only root can run it in a root of its own")
	}
	images := make(map[string]*image)
	var last *image
	for _, stage := range stages {
		last = build(t, stage, images)
		images[stage.Name] = last
	}
	if base := stages[len(stages)-1].BaseName; base != "scratch" {
		t.Fatalf("the image is made from %s: the test cannot know what is in it", base)
	}

	config, err := os.ReadFile(top + "/examples/posthorn.yaml")
	if err != nil {
		t.Fatal(err)
	}
	last.must(os.MkdirAll(last.path("/etc/posthorn"), 0o755))
	last.must(os.WriteFile(last.path("/etc/posthorn/config.yaml"), config, 0o644)) // the Compose file binds it there
	for dir := last.root; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode()&0o005 != 0o005 && strings.HasPrefix(dir, os.TempDir()) {
			last.must(os.Chmod(dir, 0o755))
		}
	}
	last.serves()
}

// serves runs the image until it is healthy, and stops it.
func (i *image) serves() {
	t := i.t
	t.Helper()
	var log bytes.Buffer
	server := i.inside(append(i.entrypoint, i.cmd...)...)
	server.Stdout, server.Stderr = &log, &log
	i.must(server.Start())
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()

	for end := time.Now().Add(time.Minute); i.inside(i.health...).Run() != nil; {
		if time.Now().After(end) {
			t.Error("it never becomes healthy")
			break
		}
	}
	pid := server.Process.Pid // each program on the way becomes the next one
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	i.must(err)
	uid, _, _ := strings.Cut(i.user, ":")
	for _, want := range []string{"\nUid:\t" + uid + "\t", "\nCapEff:\t0000000000000000\n", "\nNoNewPrivs:\t1\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp6", pid))
	i.must(err)
	for _, port := range i.ports {
		var n int
		fmt.Sscan(port, &n)
		if !strings.Contains(string(sockets), fmt.Sprintf(":%04X ", n)) {
			t.Errorf("nothing listens on port %d:\n%s", n, sockets)
		}
	}
	i.must(server.Process.Signal(syscall.SIGTERM))
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
	if i.inside(i.health...).Run() == nil {
		t.Error("it is healthy when it has ended")
	}
	if t.Failed() {
		t.Logf("the log:\n%s", log.String())
	}
}
