package devices

import (
	"net/http"
	"strings"
	"unicode"

	"posthorn/handlers/https/account"
)

// byHand is the page for a key that is made elsewhere. Its query fills in the
// commands.
func (d *Devices) byHand(w http.ResponseWriter, r *http.Request, v account.Visitor) {
	s := settings{Name: r.FormValue("name"), Client: r.FormValue("client"), Uses: usesOf(0)}
	d.renderByHand(w, r, v, http.StatusOK, s, "", nil)
}

func (d *Devices) renderByHand(w http.ResponseWriter, r *http.Request, v account.Visitor, status int, s settings, key string, f *fault) {
	address := v.Account.Primary()
	file := fileName(address, s.Name)
	d.Pages.Render(w, r, status, "devices/byhand", struct {
		Fields                     fields
		Key, File                  string
		Commands, CommandsForApple string
	}{fieldsOf(s, f), key, file, commands(address, file, false), commands(address, file, true)})
}

// shellQuote makes one word of a text, for shells like those of POSIX.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// maxCommonName is the upper bound of RFC 5280 appendix A.1, in characters;
// openssl refuses longer ones.
const maxCommonName = 64

// subject is the certificate's name, as openssl's -subj takes it: a backslash
// takes the meaning from what follows it.
func subject(address string) string {
	if n := []rune(address); len(n) > maxCommonName {
		address = string(n[:maxCommonName])
	}
	return "/CN=" + strings.NewReplacer(`\`, `\\`, `/`, `\/`, `+`, `\+`).Replace(address)
}

// commands make a key, a certificate for it and a file with both, by the program
// openssl. The file name is safe in a shell as it is.
func commands(address, file string, compatible bool) string {
	ciphers := ""
	if compatible {
		// OpenSSL 1.1, 3 and LibreSSL know these names.
		ciphers = "\n" + `  -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1 \`
	}
	return strings.Join([]string{
		`openssl ecparam -name prime256v1 -genkey -noout -out ` + file + `.key`,
		`openssl req -x509 -new -utf8 -sha256 -days 36500 \`,
		`  -subj ` + shellQuote(subject(address)) + ` \`,
		`  -addext basicConstraints=critical,CA:FALSE \`,
		`  -addext extendedKeyUsage=clientAuth \`,
		`  -key ` + file + `.key -out ` + file + `.crt`,
		`openssl pkcs12 -export -name ` + shellQuote(address) + ` \` + ciphers,
		`  -inkey ` + file + `.key -in ` + file + `.crt -out ` + file + `.p12`,
	}, "\n")
}

// fileName makes a name for files of an address and a device: letters, digits
// and single dashes, beginning with a letter or digit, whatever it is given.
func fileName(address, device string) string {
	const longest = 40
	local, _, _ := strings.Cut(address, "@")
	var b strings.Builder
	for _, r := range strings.ToLower(local + " " + device) {
		switch {
		case b.Len() >= longest:
		case r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	if name := strings.Trim(b.String(), "-"); name != "" {
		return name
	}
	return "key"
}
