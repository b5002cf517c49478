// Package browser drives a Chromium for tests of pages: what somebody sees there,
// clicks and types, on a large screen or a phone, by day or by night, with scripts
// or without.
//
// A page that logs an error, throws, or breaks its Content-Security-Policy fails
// the test.
package browser

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Browser is a running Chromium.
type Browser struct {
	t   testing.TB
	ctx context.Context
}

// Start starts a browser that ends with the test. It takes every host name for
// this machine, and trusts the certificates in the PEM files as if a CA had issued
// them (so that passkeys work, which want no excuse).
func Start(t testing.TB, certificates ...string) *Browser {
	t.Helper()
	return start(t, nil, certificates)
}

func start(t testing.TB, more []chromedp.ExecAllocatorOption, certificates []string) *Browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("host-resolver-rules", "MAP * 127.0.0.1"),
		chromedp.Flag("ignore-certificate-errors-spki-list", trusted(t, certificates)),
		chromedp.Flag("lang", "en"),
	)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	options = append(options, more...)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		tidy, over := context.WithTimeout(ctx, 10*time.Second)
		_ = chromedp.Cancel(tidy)
		over()
		cancel()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal("chromium:", err)
	}
	return &Browser{t: t, ctx: ctx}
}

// trusted returns the hashes of the certificates' public keys.
func trusted(t testing.TB, files []string) string {
	t.Helper()
	var hashes []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		if block == nil {
			t.Fatalf("%s holds no certificate", f)
			return ""
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		hash := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		hashes = append(hashes, base64.StdEncoding.EncodeToString(hash[:]))
	}
	return strings.Join(hashes, ",")
}

// View is how somebody looks at a page. The zero value is a large screen by day.
type View struct {
	Phone    bool // 360 × 740, touch
	Dark     bool
	NoScript bool // scripts are off
}

func (v View) suffix() string {
	s := ""
	if v.Phone {
		s += "-phone"
	}
	if v.Dark {
		s += "-dark"
	}
	return s
}

// Visit opens a window with cookies of its own, as another person's.
func (b *Browser) Visit(v View) *Page {
	b.t.Helper()
	p := &Page{t: b.t}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.hear))
	p.ctx = ctx
	b.t.Cleanup(func() {
		cancel()
		for _, problem := range p.problems {
			b.t.Errorf("the browser says: %s", problem)
		}
	})
	p.Look(v)
	return p
}

// Look changes how the window is looked at.
func (p *Page) Look(v View) {
	p.t.Helper()
	p.view = v
	width, height := int64(1200), int64(900)
	if v.Phone {
		width, height = 360, 740
	}
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: v.Phone})
	call(p, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: v.Phone})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: v.NoScript})
}

// hear collects what pages do wrong. Statuses of errors are no fault of theirs.
func (p *Page) hear(ev any) {
	problem := ""
	switch ev := ev.(type) {
	case *log.EventEntryAdded:
		if ev.Entry.Level == log.EntryLevelError && ev.Entry.Source != log.EntrySourceNetwork {
			problem = ev.Entry.Text
		}
	case *runtime.EventExceptionThrown:
		problem = ev.ExceptionDetails.Text
		if e := ev.ExceptionDetails.Exception; e != nil {
			problem += " " + e.Description
		}
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError {
			for _, arg := range ev.Args {
				problem += " " + string(arg.Value) + arg.Description
			}
		}
	}
	if problem != "" {
		p.mu.Lock()
		p.problems = append(p.problems, problem)
		p.mu.Unlock()
	}
}
