package container_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// load reads a Compose file as docker compose does, which checks it against the
// schema of the Compose specification.
func load(text []byte) (*types.Project, error) {
	dir, err := filepath.Abs(top + "/examples")
	if err != nil {
		return nil, err
	}
	details := types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml"), Content: text}},
		Environment: types.Mapping{},
	}
	return loader.LoadWithContext(context.Background(), details, func(o *loader.Options) { o.SetProjectName("posthorn", true) })
}

func TestCompose(t *testing.T) {
	text, err := os.ReadFile(top + "/examples/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	project, err := load(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"read_only: 7", "reed_only: true", "cap_drop: ALL"} {
		if _, err := load([]byte(strings.Replace(string(text), "read_only: true\n    security", bad+"\n    security", 1))); err == nil {
			t.Errorf("the schema allows %s", bad)
		}
	}

	s := project.Services["posthorn"]
	if !s.ReadOnly || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.CapAdd, []string{"NET_BIND_SERVICE"}) ||
		!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.Sysctls["net.ipv4.ip_unprivileged_port_start"] != "0" {
		t.Errorf("the service may do too much, or too little: %+v", s)
	}
	if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= 10*time.Second { // the default of shutdown_timeout
		t.Errorf("it is killed after %v", s.StopGracePeriod)
	}

	file, err := os.Open(filepath.Join(s.Build.Context, s.Build.Dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stages, _ := parse(t, file)
	said := make(map[string]bool) // what the image says of itself
	for _, c := range stages[len(stages)-1].Commands {
		for word := range strings.FieldsSeq(c.(interface{ String() string }).String()) {
			said[word] = true
		}
	}
	for _, p := range s.Ports {
		if !said[p.Published] || fmt.Sprint(p.Target) != p.Published {
			t.Errorf("port %s leads to %d, and the image exposes %v", p.Published, p.Target, said)
		}
	}
	for _, v := range s.Volumes {
		switch v.Type {
		case types.VolumeTypeVolume:
			if _, ok := project.Volumes[v.Source]; !ok || !said[v.Target] {
				t.Errorf("volume %s at %s is not the image's", v.Source, v.Target)
			}
		case types.VolumeTypeBind:
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s is bound to %s: %v", v.Source, v.Target, err)
			}
		}
	}
	if len(s.Ports) != 3 || len(s.Volumes) != 2 {
		t.Errorf("%d ports, %d volumes", len(s.Ports), len(s.Volumes))
	}
}
