package metadata

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
)

// UpgradeType says which way an update may move a feature (Kafka's
// FeatureUpdate.UpgradeType). Other values are refused.
type UpgradeType int8

// The ways.
const (
	Upgrade         UpgradeType = 1
	SafeDowngrade   UpgradeType = 2
	UnsafeDowngrade UpgradeType = 3
)

// FeatureUpdate asks for a level of one feature.
type FeatureUpdate struct {
	Name  string
	Level int16 // 0 takes the feature away
	Type  UpgradeType
}

// UpdateFeatures changes the finalized levels of features (KIP-584; Kafka's
// FeatureControlManager and ConfigurationControlManager.updateFeatures): all that is
// asked for or nothing. Of several updates of one feature the last counts. The
// answer is FeaturesUpdated.
type UpdateFeatures struct {
	Updates      []FeatureUpdate
	ValidateOnly bool
}

// FeaturesUpdated answers UpdateFeatures: INVALID_UPDATE_VERSION for the first update
// that is wrong, in the order in which Kafka looks at them.
type FeaturesUpdated struct{ Failure }

// featureUpdater is one UpdateFeatures under way.
type featureUpdater struct {
	s        *Shard
	updates  map[string]FeatureUpdate
	control  []coordinator.Record // of the quorum; they come first
	messages []Message
}

func (s *Shard) updateFeatures(e coordinator.Event, u UpdateFeatures) coordinator.Result {
	x := &featureUpdater{s: s, updates: map[string]FeatureUpdate{}}
	var names []string
	for _, one := range u.Updates {
		if _, twice := x.updates[one.Name]; !twice {
			names = append(names, one.Name)
		}
		x.updates[one.Name] = one
	}
	for _, name := range hashOrder(names) {
		if why := x.update(x.updates[name]); why != "" {
			return s.result(e, nil, FeaturesUpdated{fail(kerr.InvalidUpdateVersion, "%s", why)})
		}
	}
	if u.ValidateOnly {
		return s.result(e, nil, FeaturesUpdated{})
	}
	if x.updates[FeatureELRVersion].Level > 0 {
		x.messages = append(s.elrSafety(), x.messages...)
	}
	res := s.result(e, x.messages, FeaturesUpdated{})
	res.Records = append(x.control, res.Records...)
	return res
}

// update checks one update and adds its records. The result says why it is refused.
func (x *featureUpdater) update(u FeatureUpdate) (why string) {
	refused := func(format string, args ...any) string {
		return fmt.Sprintf("Invalid update version %d for feature %s. ", u.Level, u.Name) + fmt.Sprintf(format, args...)
	}
	current := x.current(u.Name)
	if u.Type < Upgrade || u.Type > UnsafeDowngrade {
		return refused("The controller does not support the given upgrade type.")
	}
	if u.Level < 0 {
		return refused("A feature version cannot be less than 0.")
	}
	if why := x.s.notSupported(u.Name, u.Level, current); why != "" {
		return refused("%s", why)
	}
	if u.Level < current && u.Type == Upgrade {
		return refused("Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.")
	}
	if u.Level > current && u.Type != Upgrade {
		return refused("Can't downgrade to a newer version.")
	}
	switch u.Name {
	case FeatureMetadataVersion:
		if u.Level < current && metadataChanged(current, u.Level) {
			return refusedDowngrade(current, u)
		}
	case FeatureKRaftVersion:
		if u.Type == Upgrade {
			x.upgradeKRaft(u.Level)
			return ""
		}
		if u.Level != current {
			return refused("Can't downgrade the version of this feature.")
		}
		return ""
	default:
		if why := x.dependencies(u); why != "" {
			return refused("%s", why)
		}
	}
	x.messages = append(x.messages, &FeatureLevelRecord{Name: u.Name, FeatureLevel: u.Level})
	return ""
}

// current is the level that a feature has.
func (x *featureUpdater) current(name string) int16 {
	if name == FeatureKRaftVersion {
		return x.s.d.img.Quorum.Version
	}
	return x.s.d.img.Feature(name)
}

// proposed is the level that a feature has if the request is carried out.
func (x *featureUpdater) proposed(name string) int16 {
	if u, ok := x.updates[name]; ok {
		return u.Level
	}
	return x.s.d.img.Feature(name)
}

// dependencies says which other feature's level is too low for an update (Kafka's
// Feature.validateVersion).
func (x *featureUpdater) dependencies(u FeatureUpdate) (why string) {
	fs := x.s.o.Features
	at := slices.IndexFunc(fs, func(f Feature) bool { return f.Name == u.Name })
	if at < 0 {
		return fmt.Sprintf("Feature %s not found.", u.Name)
	}
	if needs := fs[at].Needs; u.Level >= 1 && x.proposed(FeatureMetadataVersion) < needs {
		return fmt.Sprintf("%s could not be set to %d because it depends on metadata.version level %d", u.Name, u.Level, needs)
	}
	return ""
}

// upgradeKRaft adds the records of kraft.version 1 (LeaderState.
// maybeAppendUpgradedKRaftVersion): who the voters are comes into the log, in which
// only control records tell it. The record behind them is Kafka's, which waits for it.
func (x *featureUpdater) upgradeKRaft(level int16) {
	if level > x.s.d.img.Quorum.Version {
		var q Quorum
		q.SetVoters([]KRaftVoter{x.s.o.Voter})
		for _, r := range q.ControlRecords() {
			x.control = append(x.control, coordinator.Record{Key: AppendControlKey(nil, r.Type), Value: r.Value})
		}
	}
	x.messages = append(x.messages, &NoOpRecord{})
}

// notSupported says which node of the cluster does not support a level. A feature
// that is not served is one that this node does not support; that it is kept at the level
// that it has changes nothing.
func (s *Shard) notSupported(name string, level, current int16) (why string) {
	outside := func(what string, low, high int16) string {
		switch {
		case level >= low && level <= high:
			return ""
		case high == 0:
			return what + " does not support this feature."
		case low == high:
			return fmt.Sprintf("%s only supports versions %d", what, low)
		}
		return fmt.Sprintf("%s only supports versions %d-%d", what, low, high)
	}
	ours := Feature{}
	for _, f := range s.o.Features {
		if f.Name == name && (!f.Unserved || level == current) {
			ours = f
		}
	}
	if why := outside("Local controller "+strconv.Itoa(int(s.o.NodeID)), ours.Min, ours.Max); why != "" {
		return why
	}
	for _, b := range s.d.img.brokers {
		low, high := rangeIn(b.Features, name)
		if why := outside("Broker "+strconv.Itoa(int(b.ID)), low, high); why != "" {
			return why
		}
	}
	if s.d.img.Feature(FeatureMetadataVersion) < levelControllerRegistration {
		return ""
	}
	for _, c := range s.d.img.controllers {
		if low, high := rangeIn(c.Features, name); c.ID != s.o.NodeID {
			if why := outside("Controller "+strconv.Itoa(int(c.ID)), low, high); why != "" {
				return why
			}
		}
	}
	return ""
}

// rangeIn is the range of a feature in a registration, 0 to 0 if it has none.
func rangeIn(fs []FeatureRange, name string) (low, high int16) {
	for _, f := range fs {
		if f.Name == name {
			return f.MinSupportedVersion, f.MaxSupportedVersion
		}
	}
	return 0, 0
}

// metadataChanged tells whether records that a level of metadata.version brought, above
// a lower one, may be in the log (MetadataVersion.checkIfMetadataChanged).
func metadataChanged(high, low int16) bool {
	for level := high; level > low; level-- {
		switch level {
		case levelZkMigration, levelScram, levelMetadataTransactions, levelDelegationTokens, levelControllerRegistration,
			levelDirectoryAssignment, levelELR, levelCordonedDirectories:
			return true
		}
	}
	return false
}

func refusedDowngrade(current int16, u FeatureUpdate) string {
	why := "Refusing to perform the requested downgrade because it might delete metadata information."
	if u.Type == UnsafeDowngrade {
		why = "Unsafe metadata downgrade is not supported in this version."
	}
	return fmt.Sprintf("Unsupported metadata.version downgrade from %d to %d. %s", current, u.Level, why)
}

// elrSafety returns the records that make it safe to record eligible leader replicas
// (KIP-966; maybeGenerateElrSafetyRecords): min.insync.replicas is one for the
// cluster, and there is none for a single broker.
func (s *Shard) elrSafety() []Message {
	var ms []Message
	if _, ok := s.d.img.ClusterConfigs()[minInSyncReplicas]; !ok {
		value := strconv.Itoa(int(s.o.MinInSyncReplicas))
		ms = append(ms, &ConfigRecord{ResourceType: int8(ResourceBroker), Name: minInSyncReplicas, Value: &value})
	}
	names := s.d.img.ConfiguredNames(ResourceBroker)
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }) // numbers
	for _, name := range names {
		if _, ok := s.d.img.Configs(Resource{ResourceBroker, name})[minInSyncReplicas]; ok && name != "" {
			ms = append(ms, &ConfigRecord{ResourceType: int8(ResourceBroker), ResourceName: name, Name: minInSyncReplicas})
		}
	}
	return ms
}

// hashOrder is the order in which Kafka looks at the updates of a request: that of
// Java's HashMap. Names of one slot stay in the order of the request.
func hashOrder(names []string) []string {
	size := uint32(16)
	for len(names) > int(size)*3/4 {
		size *= 2
	}
	slot := func(name string) uint32 {
		var h uint32
		for _, c := range utf16.Encode([]rune(name)) {
			h = 31*h + uint32(c)
		}
		return (h ^ h>>16) & (size - 1)
	}
	ordered := slices.Clone(names)
	slices.SortStableFunc(ordered, func(a, b string) int { return cmp.Compare(slot(a), slot(b)) })
	return ordered
}

// RefreshRegistration completes the registration of this node with what an older
// metadata.version had no room for, after that was raised
// (ControllerRegistrationManager, BrokerRegistrationTracker). The fields are those of this
// start; Incarnation and Epoch are not looked at. The answer is RegistrationRefreshed.
type RefreshRegistration struct{ RegisterBroker }

// RegistrationRefreshed answers RefreshRegistration.
type RegistrationRefreshed struct{}

func (s *Shard) refreshRegistration(e coordinator.Event, r RefreshRegistration) coordinator.Result {
	var ms []Message
	level := s.d.img.Feature(FeatureMetadataVersion)
	registered := slices.ContainsFunc(s.d.img.controllers, func(c *Controller) bool { return c.ID == s.o.NodeID })
	if level >= levelControllerRegistration && !registered {
		ms = append(ms, s.controllerRegistration(r.RegisterBroker))
	}
	b := s.d.img.Broker(s.o.NodeID)
	if b != nil && level >= levelDirectoryAssignment && len(b.Directories) == 0 {
		m := s.brokerRegistration(r.RegisterBroker, b.Epoch)
		m.IncarnationID, m.Fenced, m.InControlledShutdown = b.Incarnation, b.Fenced, b.InControlledShutdown
		ms = append(ms, m)
	}
	if b != nil && level >= levelCordonedDirectories && b.CordonedDirectories == nil {
		cordoned := append([][16]byte{}, sortedIDs(r.Cordoned)...) // none of them is told, too
		ms = append(ms, &BrokerRegistrationChangeRecord{BrokerID: b.ID, BrokerEpoch: b.Epoch, CordonedLogDirs: cordoned})
	}
	return s.result(e, ms, RegistrationRefreshed{})
}
