package browser

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Page is a window. Its methods fail the test when what they look for does not
// come within a moment. Elements are named by CSS selectors.
type Page struct {
	t    testing.TB
	ctx  context.Context
	view View

	mu       sync.Mutex // guards problems
	problems []string
}

// patience is how long something may take to appear.
const patience = 20 * time.Second

// Run runs an action of chromedp that the methods of Page do not have.
func Run[T any](p *Page, a chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.describe())
	}
	return v
}

func call[P, R any](p *Page, cmd cdp.Command[P, R], params P) R {
	p.t.Helper()
	r, err := chromedp.Call(p.ctx, cmd, params)
	if err != nil {
		p.t.Fatalf("%s: %v", cmd.Method, err)
	}
	return r
}

// describe tells where the window is and what is in it.
func (p *Page) describe() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	where, _ := chromedp.Run(ctx, chromedp.Location())
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		text = err.Error()
	}
	return where + "\n" + text
}

// navigate runs what leads to another page, and returns the status of that.
func (p *Page) navigate(a chromedp.Action[chromedp.Void]) (status int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	resp, err := chromedp.RunResponse(ctx, a)
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.describe())
	}
	return int(resp.Status)
}

// Open goes to an address and returns the status of the answer.
func (p *Page) Open(url string) (status int) {
	p.t.Helper()
	return p.navigate(chromedp.Navigate(url))
}

// Follow clicks what leads to another page, and returns its status.
func (p *Page) Follow(selector string) (status int) {
	p.t.Helper()
	return p.navigate(chromedp.Click(chromedp.CSS(selector)))
}

// Click clicks what leads nowhere.
func (p *Page) Click(selector string) {
	p.t.Helper()
	Run(p, chromedp.Click(chromedp.CSS(selector)))
}

// Type replaces what a field holds.
func (p *Page) Type(selector, text string) {
	p.t.Helper()
	p.Paste(selector, "") // chromedp.Clear leaves what somebody has typed
	Run(p, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Upload gives a file to a file field.
func (p *Page) Upload(selector string, files ...string) {
	p.t.Helper()
	Run(p, chromedp.SetUploadFiles(chromedp.CSS(selector), files))
}

// Select chooses an option by its value.
func (p *Page) Select(selector, value string) {
	p.t.Helper()
	Run(p, chromedp.SetValue(chromedp.CSS(selector), value))
}

// Wait waits until something can be seen.
func (p *Page) Wait(selector string) {
	p.t.Helper()
	Run(p, chromedp.WaitVisible(chromedp.CSS(selector)))
}

// Text returns the text of the first element that a selector finds.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	return strings.TrimSpace(Run(p, chromedp.Text(chromedp.CSS(selector))))
}

// Value returns what a field holds.
func (p *Page) Value(selector string) string {
	p.t.Helper()
	return Run(p, chromedp.Value(chromedp.CSS(selector)))
}

// Count returns how many elements there are now.
func (p *Page) Count(selector string) int {
	p.t.Helper()
	return Eval[int](p, fmt.Sprintf("document.querySelectorAll(%q).length", selector))
}

// Eval returns the value of a JavaScript expression, which may be a promise.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	return Run(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Path returns the path and query of the page.
func (p *Page) Path() string {
	p.t.Helper()
	return Eval[string](p, "location.pathname + location.search")
}

// Want fails the test unless the page shows a text.
func (p *Page) Want(text string) {
	p.t.Helper()
	if body := p.Text("body"); !strings.Contains(body, text) {
		p.t.Errorf("the page does not show %q:\n%s", text, p.describe())
	}
}

// Screenshot keeps a picture of the whole page as the test's output (go test
// -artifacts), with the view in its name, and fails the test when the page is
// wider than the window.
func (p *Page) Screenshot(name string) {
	p.t.Helper()
	if over := Eval[int](p, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		p.t.Errorf("%s%s is %d pixels too wide", name, p.view.suffix(), over)
	}
	picture := Run(p, chromedp.FullScreenshot(100))
	file := filepath.Join(p.t.ArtifactDir(), name+p.view.suffix()+".png")
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// Looks are the views that every page is to be seen in.
var Looks = []View{{}, {Phone: true}, {Dark: true}, {Phone: true, Dark: true}}

// Inspect looks at a page in every view: it keeps a picture of each, and fails the
// test when axe finds that somebody is shut out.
func (p *Page) Inspect(name string) {
	p.t.Helper()
	before := p.view
	for _, v := range Looks {
		v.NoScript = before.NoScript
		p.Look(v)
		p.Screenshot(name)
		if v.Phone == v.Dark { // between them they have all layouts and all colours
			p.Accessible(name)
		}
	}
	p.Look(before)
}

// axeFile is axe-core, as .ci/test installs it, from below e2e.
const axeFile = "../web/node_modules/axe-core/axe.min.js"

// Accessible fails the test when axe-core finds something serious or critical.
func (p *Page) Accessible(name string) {
	p.t.Helper()
	if p.view.NoScript {
		return // axe is one
	}
	axe, err := os.ReadFile(axeFile)
	if err != nil {
		p.t.Fatalf("axe-core is not installed (.ci/test does it): %v", err)
	}
	type finding struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML, FailureSummary string }
	}
	Run(p, chromedp.Evaluate[chromedp.Void](string(axe)+"\n;undefined"))
	for _, f := range Eval[[]finding](p, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v => (
		{ID: v.id, Impact: v.impact, Help: v.help, Nodes: v.nodes.map(n => ({HTML: n.html, FailureSummary: n.failureSummary}))})))`) {
		p.t.Errorf("%s%s: %s (%s): %s\n%s\n%s", name, p.view.suffix(), f.ID, f.Impact, f.Help, f.Nodes[0].HTML, f.Nodes[0].FailureSummary)
	}
}

// Authenticator gives the window a device that keeps passkeys, and says yes to all
// that it is asked. It returns its ID for commands of the WebAuthn domain.
func (p *Page) Authenticator() webauthn.AuthenticatorID {
	p.t.Helper()
	call(p, webauthn.Enable, webauthn.EnableParams{})
	r := call(p, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
		Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
		},
	})
	return r.AuthenticatorID
}
