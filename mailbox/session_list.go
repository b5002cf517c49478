package mailbox

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// List writes the mailboxes that match (RFC 9051 section 6.3.9, also with the
// options of LIST-EXTENDED, LIST-STATUS and SPECIAL-USE), and those of LSUB.
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, options *imap.ListOptions) error {
	if len(patterns) == 0 { // the client asks for the delimiter
		none := &imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: delimiter}
		return s.reply(told(w.WriteList(none)))
	}
	var compiled []pattern
	for _, p := range patterns {
		if c, ok := newPattern(ref, p); ok {
			compiled = append(compiled, c)
		}
	}
	const maxPatterns = 100
	if len(compiled) > maxPatterns {
		return no(imap.ResponseCodeLimit, "Too many patterns")
	}
	var found []*imap.ListData
	err := s.store.view(func(v snapshot) (err error) {
		found, err = s.list(v, compiled, options)
		return err
	})
	if err != nil {
		return s.reply(err)
	}
	for _, data := range found {
		if err := w.WriteList(data); err != nil {
			return s.reply(told(err))
		}
	}
	return nil
}

func (s *session) list(v snapshot, patterns []pattern, options *imap.ListOptions) ([]*imap.ListData, error) {
	var u userRecord
	if err := v.get(userKey(s.user), u.decode); notFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	names, err := v.folderNames(kindName, u.n, "")
	if err != nil {
		return nil, err
	}
	subscribed, err := v.folderNames(kindSubscribe, u.n, "")
	if err != nil {
		return nil, err
	}
	candidates := names
	if options.SelectSubscribed {
		candidates = slices.Concat(names, subscribed)
		slices.Sort(candidates)
		candidates = slices.Compact(candidates)
	}
	var found []*imap.ListData
	for _, name := range candidates {
		if !anyMatch(patterns, name) {
			continue
		}
		data, ok := listSubscription(name, names, subscribed, options)
		if !ok {
			continue
		}
		if err := s.listFolder(v, u.n, data, options); err != nil {
			return nil, err
		}
		if options.SelectSpecialUse && !slices.ContainsFunc(data.Attrs, isUse) {
			continue
		}
		found = append(found, data)
	}
	return found, nil
}

// listSubscription begins the data of a mailbox with what the names alone
// tell, and says whether it is selected. The lists of names are sorted.
func listSubscription(name string, names, subscribed []string, options *imap.ListOptions) (*imap.ListData, bool) {
	data := &imap.ListData{Delim: delimiter, Mailbox: name}
	_, isSubscribed := slices.BinarySearch(subscribed, name)
	if options.SelectSubscribed {
		if options.SelectRecursiveMatch && hasChild(subscribed, name) {
			data.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
		}
		if !isSubscribed && data.ChildInfo == nil {
			return nil, false
		}
	}
	if isSubscribed && (options.SelectSubscribed || options.ReturnSubscribed) {
		data.Attrs = append(data.Attrs, imap.MailboxAttrSubscribed)
	}
	if _, exists := slices.BinarySearch(names, name); !exists {
		data.Attrs = append(data.Attrs, imap.MailboxAttrNonExistent)
	}
	if hasChild(names, name) {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasChildren)
	} else {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasNoChildren)
	}
	return data, true
}

// listFolder adds what the mailbox itself tells, if it exists.
func (s *session) listFolder(v snapshot, userN uint64, data *imap.ListData, options *imap.ListOptions) error {
	if slices.Contains(data.Attrs, imap.MailboxAttrNonExistent) {
		return nil
	}
	id, err := folderID(v, userN, data.Mailbox)
	if err != nil {
		return err
	}
	f, err := folder(v, id)
	if err != nil {
		return err
	}
	if f.use != "" {
		data.Attrs = append(data.Attrs, f.use)
	}
	if options.ReturnStatus != nil {
		data.Status = s.status(data.Mailbox, f)
	}
	return nil
}

func isUse(attr imap.MailboxAttr) bool {
	return slices.ContainsFunc(firstFolders, func(f struct {
		name string
		use  imap.MailboxAttr
	}) bool {
		return f.use == attr
	})
}

// hasChild says whether sorted names have one below name.
func hasChild(names []string, name string) bool {
	prefix := name + delimiterStr
	i, _ := slices.BinarySearch(names, prefix)
	return i < len(names) && strings.HasPrefix(names[i], prefix)
}
