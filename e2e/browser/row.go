package browser

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// Press clicks the button with a text in the row of a table that holds another.
func (p *Page) Press(row, button string) {
	p.t.Helper()
	const mark = "data-pressed-by-test"
	found := Eval[bool](p, fmt.Sprintf(`(() => {
		document.querySelectorAll("[%[1]s]").forEach(e => e.removeAttribute("%[1]s"));
		const row = [...document.querySelectorAll("tbody tr")].find(r => r.textContent.includes(%[2]q));
		const button = [...row?.querySelectorAll("button") ?? []].find(b => b.textContent.startsWith(%[3]q));
		button?.setAttribute("%[1]s", "");
		return button !== undefined;
	})()`, mark, row, button))
	if !found {
		p.t.Fatalf("no row with %q has a button %q:\n%s", row, button, p.describe())
	}
	p.Click("[" + mark + "]")
}

// Paste replaces what a field holds, at once and whatever is in it.
func (p *Page) Paste(selector, text string) {
	p.t.Helper()
	p.Wait(selector)
	Eval[bool](p, fmt.Sprintf(`(() => {
		const field = document.querySelector(%q);
		field.value = %q;
		return field.dispatchEvent(new Event("input", {bubbles: true}));
	})()`, selector, text))
}

// Wants waits until the page shows all of some texts.
func (p *Page) Wants(texts ...string) {
	p.t.Helper()
	body := p.await(func(body string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(body, text) })
	})
	for _, text := range texts {
		if !strings.Contains(body, text) {
			p.t.Errorf("the page does not show %q:\n%s", text, p.describe())
		}
	}
}

// Lacks waits until the page does not show a text any more.
func (p *Page) Lacks(text string) {
	p.t.Helper()
	if body := p.await(func(body string) bool { return !strings.Contains(body, text) }); strings.Contains(body, text) {
		p.t.Errorf("the page still shows %q:\n%s", text, p.describe())
	}
}

// await waits until the page's text is as it should be, and returns it as it was last.
// On the way from page to page there is none.
func (p *Page) await(good func(body string) bool) (body string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	for again := time.Tick(20 * time.Millisecond); ; {
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body?.innerText ?? ''"))
		if err == nil {
			body = text
		}
		if err == nil && good(body) || ctx.Err() != nil {
			return body
		}
		select {
		case <-again:
		case <-ctx.Done():
		}
	}
}

// Offline takes the window's network away, or gives it back.
func (p *Page) Offline(off bool) {
	p.t.Helper()
	call(p, network.Enable, network.EnableParams{})
	call(p, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
		MatchedNetworkConditions: []*network.Conditions{{Offline: off, DownloadThroughput: -1, UploadThroughput: -1}}})
}
