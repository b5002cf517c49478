package browser

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// Download clicks a link and returns the file that the browser saves, and the name
// that it would have.
func (p *Page) Download(selector string) (name string, content []byte) {
	p.t.Helper()
	dir := p.t.TempDir()
	began := make(chan string, 1)
	done := make(chan browser.EventDownloadProgress, 1)
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	err := chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *browser.EventDownloadWillBegin:
			began <- ev.SuggestedFilename
		case *browser.EventDownloadProgress:
			if ev.State != browser.DownloadProgressStateInProgress {
				done <- *ev
			}
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	events := true
	call(p, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllowAndName, DownloadPath: dir, EventsEnabled: &events,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	p.Click(selector)
	select {
	case end := <-done:
		if end.State != browser.DownloadProgressStateCompleted {
			p.t.Fatalf("%s is not downloaded: %s", selector, end.State)
		}
		if content, err = os.ReadFile(filepath.Join(dir, end.GUID)); err != nil {
			p.t.Fatal(err)
		}
		return <-began, content
	case <-time.After(patience):
		p.t.Fatalf("%s is not downloaded\n%s", selector, p.describe())
		return "", nil
	}
}
