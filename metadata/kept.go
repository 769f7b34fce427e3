package metadata

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// kept is the part of an image that is kept for Kafka as its records say it, whether
// or not this broker acts on it: ACLs, SCRAM credentials, client quotas, delegation
// tokens. A nil map is an empty one.
type kept struct {
	acls   map[[16]byte]*AccessControlEntryRecord
	scram  map[scramKey]*UserScramCredentialRecord
	quotas map[string]*ClientQuotaRecord // by quotaKey
	tokens map[string]*DelegationTokenRecord
}

// scramKey is what there is one SCRAM credential of.
type scramKey struct {
	user      string
	mechanism int8
}

// quotaKey names one quota of one entity, in whatever order the parts of the entity
// were written.
func quotaKey(m *ClientQuotaRecord) string {
	parts := make([]string, len(m.Entity))
	for i, e := range m.Entity {
		parts[i] = strconv.Quote(e.EntityType)
		if e.EntityName != nil {
			parts[i] += "=" + strconv.Quote(*e.EntityName)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ",") + "/" + m.Key
}

// keptGens are the generations of the maps of a draft's kept part (see draft.gen).
type keptGens struct{ acls, scram, quotas, tokens uint64 }

// ownMap returns a map that this draft may change: a copy if it may have been published.
func ownMap[K comparable, V any](d *draft, m *map[K]V, gen *uint64) map[K]V {
	if *gen != d.gen || *m == nil {
		*m, *gen = maps.Clone(*m), d.gen
		if *m == nil {
			*m = map[K]V{}
		}
	}
	return *m
}

// applyKept applies the records about who may do what and how much. The other types
// have no effect. As for Kafka, the removal of an ACL that is not there means that the
// log is not whole; removing anything else that is not there changes nothing.
func (d *draft) applyKept(m Message) error {
	k, g := &d.img.kept, &d.keptGens
	switch m := m.(type) {
	case *AccessControlEntryRecord:
		ownMap(d, &k.acls, &g.acls)[m.ID] = m
	case *RemoveAccessControlEntryRecord:
		if k.acls[m.ID] == nil {
			return fmt.Errorf("removal of the unknown ACL %s", UUIDString(m.ID))
		}
		delete(ownMap(d, &k.acls, &g.acls), m.ID)
	case *UserScramCredentialRecord:
		ownMap(d, &k.scram, &g.scram)[scramKey{m.Name, m.Mechanism}] = m
	case *RemoveUserScramCredentialRecord:
		delete(ownMap(d, &k.scram, &g.scram), scramKey{m.Name, m.Mechanism})
	case *ClientQuotaRecord:
		if m.Remove {
			delete(ownMap(d, &k.quotas, &g.quotas), quotaKey(m))
		} else {
			ownMap(d, &k.quotas, &g.quotas)[quotaKey(m)] = m
		}
	case *DelegationTokenRecord:
		ownMap(d, &k.tokens, &g.tokens)[m.TokenID] = m
	case *RemoveDelegationTokenRecord:
		delete(ownMap(d, &k.tokens, &g.tokens), m.TokenID)
	}
	return nil
}

// ACLs returns the access control entries by id.
func (img *Image) ACLs() []*AccessControlEntryRecord {
	return slices.SortedFunc(maps.Values(img.kept.acls), func(a, b *AccessControlEntryRecord) int {
		return bytes.Compare(a.ID[:], b.ID[:])
	})
}

// ScramCredentials returns the SCRAM credentials by mechanism and user.
func (img *Image) ScramCredentials() []*UserScramCredentialRecord {
	return slices.SortedFunc(maps.Values(img.kept.scram), func(a, b *UserScramCredentialRecord) int {
		return cmp.Or(cmp.Compare(a.Mechanism, b.Mechanism), strings.Compare(a.Name, b.Name))
	})
}

// Quotas returns the client quotas, each with the record that set it, sorted by
// entity and key.
func (img *Image) Quotas() []*ClientQuotaRecord {
	all := make([]*ClientQuotaRecord, 0, len(img.kept.quotas))
	for _, key := range slices.Sorted(maps.Keys(img.kept.quotas)) {
		all = append(all, img.kept.quotas[key])
	}
	return all
}

// DelegationTokens returns the delegation tokens by id.
func (img *Image) DelegationTokens() []*DelegationTokenRecord {
	return slices.SortedFunc(maps.Values(img.kept.tokens), func(a, b *DelegationTokenRecord) int {
		return strings.Compare(a.TokenID, b.TokenID)
	})
}
