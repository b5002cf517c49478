package devices

import (
	"html/template"
	"net/http"
	"net/url"
	"strconv"

	"posthorn/handlers/https/account"

	"rsc.io/qr"
)

// phone is the page that sets up Delta Chat, or leads a phone to the pages.
func (d *Devices) phone(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	address := "https://" + r.Host + Root + "/new"
	code, err := qrCode(address)
	if err != nil {
		d.fail(w, r, err)
		return
	}
	login := "" // Delta Chat is for both or none
	if servers := d.ways(v); servers.Complete() {
		login = deltaChat(v.Account.Primary(), servers)
	}
	d.Pages.Render(w, r, http.StatusOK, "devices/phone", struct {
		Address, Page, Login string
		Code                 template.HTML
	}{v.Account.Primary(), address, login, code})
}

// qrCode draws a text, dark on light with the margin that readers want
// (ISO/IEC 18004). In the drawing there is nothing but numbers.
func qrCode(text string) (template.HTML, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", err
	}
	const margin = 4
	path := []byte{}
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				path = append(path, 'M')
				path = strconv.AppendInt(path, int64(x+margin), 10)
				path = append(path, ' ')
				path = strconv.AppendInt(path, int64(y+margin), 10)
				path = append(path, "h1v1h-1z"...)
			}
		}
	}
	size := strconv.Itoa(code.Size + 2*margin)
	return template.HTML(`<svg viewBox="0 0 ` + size + ` ` + size + `" aria-hidden="true"><rect width="100%" height="100%" fill="#fff"/>` +
		`<path fill="#000" d="` + string(path) + `"/></svg>`), nil
}

// deltaChat is the content of a QR code that sets up Delta Chat (its
// dclogin scheme, version 1) but for the password, behind "p=". It comes first
// for the browser to put it there, as the gateway does not know it.
func deltaChat(address string, w ways) string {
	imap, smtp := w.IMAP, w.SMTP
	if w.WebIMAP != nil {
		imap = *w.WebIMAP
	}
	if w.WebSMTP != nil {
		smtp = *w.WebSMTP
	}
	return "dclogin:" + url.PathEscape(address) + "?p=&v=1" +
		"&ih=" + url.QueryEscape(imap.Host) + "&ip=" + strconv.Itoa(imap.Port) + "&is=ssl" +
		"&sh=" + url.QueryEscape(smtp.Host) + "&sp=" + strconv.Itoa(smtp.Port) + "&ss=ssl"
}
