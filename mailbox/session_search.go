package mailbox

import (
	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// Search finds messages (RFC 9051 section 6.4.4) and may save the result (RFC
// 5182). It gives up when it takes too long.
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, options *imap.SearchOptions) (*imap.SearchData, error) {
	sel, err := s.current()
	if err != nil {
		return nil, err
	}
	found, err := s.search(sel, criteria)
	if err != nil {
		if options.ReturnSave {
			sel.saved = nil // RFC 5182 section 2.1
		}
		return nil, s.reply(err)
	}
	if options.ReturnSave {
		sel.saved = savedResult(found, options)
	}
	nums := found
	if kind == imapserver.NumKindSeq {
		nums = make([]uint32, len(found))
		for i, uid := range found {
			nums[i] = sel.view.seq(uid)
		}
	}
	data := &imap.SearchData{Count: uint32(len(nums)), All: uidSet(nums)}
	if kind == imapserver.NumKindSeq {
		data.All = seqSet(nums)
	}
	if len(nums) > 0 {
		data.Min, data.Max = nums[0], nums[len(nums)-1]
	}
	return data, nil
}

func (s *session) search(sel *selection, criteria *imap.SearchCriteria) (found []uint32, err error) {
	search, err := s.store.newSearch(sel, criteria)
	if err != nil {
		return nil, err
	}
	err = s.store.view(func(v snapshot) error {
		found, err = search.run(v)
		return err
	})
	return found, err
}

// savedResult is what $ stands for: with MIN or MAX alone, only those (RFC
// 5182 section 2.4).
func savedResult(found []uint32, o *imap.SearchOptions) []uint32 {
	if o.ReturnAll || o.ReturnCount || len(found) == 0 {
		return found
	}
	var saved []uint32
	if o.ReturnMin {
		saved = append(saved, found[0])
	}
	if o.ReturnMax && (len(found) > 1 || !o.ReturnMin) {
		saved = append(saved, found[len(found)-1])
	}
	return saved
}

func seqSet(nums []uint32) imap.SeqSet {
	var set imap.SeqSet
	for _, r := range uidSet(nums) {
		set = append(set, imap.SeqRange{Start: uint32(r.Start), Stop: uint32(r.Stop)})
	}
	return set
}
