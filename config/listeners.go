package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ListenerConfig is one entry of listeners with what belongs to it.
type ListenerConfig struct {
	Name     string // in upper case
	Protocol string // security protocol: PLAINTEXT
	Host     string // "" is every interface
	Port     int    // 0 to 65535; 0: the system chooses

	// AdvertisedHost is what clients are told; "" stands for this machine's
	// host name. AdvertisedPort 0 stands for the port that was bound. A
	// controller's listener and one that advertised.listeners leaves out have
	// Advertised false.
	Advertised     bool
	AdvertisedHost string
	AdvertisedPort int

	// Controller listeners belong to the metadata quorum. No client talks to
	// them, and one node has no one else to open them for.
	Controller bool
}

// Listeners gives the listeners in the order in which they were written.
func (c *Config) Listeners() []ListenerConfig { return slices.Clone(c.listeners) }

// endpoint is one parsed entry of listeners or advertised.listeners.
type endpoint struct {
	name, protocol, host string
	port                 int
}

// endpointForm is the pattern that Kafka reads listeners with
// (SocketServerConfigs).
var endpointForm = regexp.MustCompile(`^(.*)://\[?([0-9a-zA-Z\-%._:]*)\]?:(-?[0-9]+)$`)

const (
	plaintext      = "PLAINTEXT"
	nowhereAddress = "0.0.0.0"
)

// securityProtocols are the names of Kafka's SecurityProtocol.
var securityProtocols = []string{plaintext, "SSL", "SASL_PLAINTEXT", "SASL_SSL"}

// checkListeners parses and checks everything about listeners and keeps the
// result. Messages are those of KafkaConfig where it has one.
func (c *Config) checkListeners() error {
	protocols, err := c.protocolMap()
	if err != nil {
		return err
	}
	opened, err := parseEndpoints(c.Strings("listeners"), protocols, true)
	if err != nil {
		return c.at("listeners", err)
	}
	controllers, err := c.controllerNames(opened)
	if err != nil {
		return c.at("controller.listener.names", err)
	}
	advertised, err := c.advertisedEndpoints(opened, controllers, protocols)
	if err != nil {
		return c.at("advertised.listeners", err)
	}
	if err := c.checkInterBroker(advertised, protocols); err != nil {
		return err
	}
	if err := c.checkEarlyStart(opened, controllers); err != nil {
		return c.at("early.start.listeners", err)
	}
	for _, e := range opened {
		l := ListenerConfig{Name: e.name, Protocol: e.protocol, Host: e.host, Port: e.port, Controller: slices.Contains(controllers, e.name)}
		for _, a := range advertised {
			if a.name == e.name {
				l.Advertised, l.AdvertisedHost, l.AdvertisedPort = true, a.host, a.port
			}
		}
		if err := c.checkServed(l); err != nil {
			return c.at("listeners", err)
		}
		c.listeners = append(c.listeners, l)
	}
	return nil
}

// checkServed refuses what cannot be served yet and warns about what is open
// to the network.
func (c *Config) checkServed(l ListenerConfig) error {
	if l.Controller {
		return nil
	}
	if l.Protocol != plaintext {
		return fmt.Errorf("listener %s: the security protocol %s is not supported yet; "+
			"use %s:PLAINTEXT in listener.security.protocol.map and keep the port on a trusted network, or put a TLS proxy in front of it", l.Name, l.Protocol, l.Name)
	}
	if l.Port < 0 || l.Port > maxPort {
		return fmt.Errorf("listener %s: port %d is not between 0 and %d", l.Name, l.Port, maxPort)
	}
	if !isLoopback(l.Host) {
		host := l.Host
		if host == "" {
			host = "every interface"
		}
		c.warnings = append(c.warnings, fmt.Sprintf(
			"listener %s on %s, port %d, lets everybody who can reach it read, write and delete everything: it asks for no authentication", l.Name, host, l.Port))
	}
	return nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// protocolMap is AbstractKafkaConfig.effectiveListenerSecurityProtocolMap.
func (c *Config) protocolMap() (map[string]string, error) {
	const name = "listener.security.protocol.map"
	pairs, err := csvMap(name, c.Text(name))
	if err != nil {
		return nil, c.at(name, err)
	}
	protocols := map[string]string{}
	for _, p := range pairs {
		protocol := strings.ToUpper(p.Value)
		if !slices.Contains(securityProtocols, protocol) {
			return nil, c.at(name, problem(name, "Invalid security protocol `%s` defined in %s", p.Value, name))
		}
		protocols[strings.ToUpper(p.Name)] = protocol
	}
	if c.given(name) {
		return protocols, nil
	}
	controllers := c.Strings("controller.listener.names")
	for _, l := range slices.Concat(controllers, c.Strings("listeners")) {
		scheme, _, _ := strings.Cut(strings.ToUpper(l), ":")
		if scheme != plaintext && slices.Contains(securityProtocols, scheme) {
			return protocols, nil
		}
	}
	for _, l := range controllers {
		protocols[strings.ToUpper(l)] = plaintext
	}
	return protocols, nil
}

// csvMap reads name:value,name:value (Csv.parseCsvMap); the value follows the
// last colon.
func csvMap(setting, text string) ([]Pair, error) {
	var pairs []Pair
	for _, e := range parseList(trim(text), false) {
		i := strings.LastIndexByte(e, ':')
		if i < 0 {
			return nil, problem(setting, "Error parsing configuration property '%s': %q has no colon", setting, e)
		}
		pairs = append(pairs, Pair{Name: trim(e[:i]), Value: trim(e[i+1:])})
	}
	return pairs, nil
}

func parseEndpoints(entries []string, protocols map[string]string, distinctPorts bool) ([]endpoint, error) {
	shown := "[" + strings.Join(entries, ", ") + "]"
	fail := func(why string) error {
		return problem("listeners", "Error creating broker listeners from '%s': %s", shown, why)
	}
	var all []endpoint
	for _, e := range entries {
		m := endpointForm.FindStringSubmatch(e)
		if m == nil {
			return nil, fail("Unable to parse " + e + " to a broker endpoint")
		}
		port, err := strconv.ParseInt(m[3], 10, 32)
		if err != nil {
			return nil, fail("Unable to parse " + e + " to a broker endpoint")
		}
		p := endpoint{name: strings.ToUpper(m[1]), host: m[2], port: int(port)}
		if p.protocol = protocols[p.name]; p.protocol == "" {
			return nil, fail("No security protocol defined for listener " + p.name)
		}
		if slices.ContainsFunc(all, func(o endpoint) bool { return o.name == p.name }) {
			return nil, fail("Each listener must have a different name, listeners: " + shown)
		}
		all = append(all, p)
	}
	if why := clashingPorts(all); distinctPorts && why != "" {
		return nil, fail(why + ", listeners: " + shown)
	}
	return all, nil
}

// clashingPorts says why two listeners cannot have the same port, or "". One
// IPv4 and one IPv6 address may share a port (KIP-797).
func clashingPorts(all []endpoint) string {
	for i, a := range all {
		for _, b := range all[:i] {
			if a.port != b.port || a.port == 0 {
				continue
			}
			first, errA := netip.ParseAddr(a.host)
			second, errB := netip.ParseAddr(b.host)
			if errA != nil || errB != nil {
				return "Each listener must have a different port"
			}
			if first.Is4() == second.Is4() {
				return "If you have two listeners on the same port then one needs to be IPv4 and the other IPv6"
			}
		}
	}
	return ""
}

// controllerNames gives controller.listener.names in upper case. Names that
// nobody wrote (Preset) need not be listeners.
func (c *Config) controllerNames(opened []endpoint) ([]string, error) {
	const name = "controller.listener.names"
	var names []string
	found := 0
	for _, n := range c.Strings(name) {
		n = strings.ToUpper(n)
		names = append(names, n)
		if slices.ContainsFunc(opened, func(e endpoint) bool { return e.name == n }) {
			found++
		}
	}
	switch {
	case !c.given(name) || found == len(names):
		return names, nil
	case found == 0:
		return nil, fmt.Errorf("%s must contain at least one value appearing in the 'listeners' configuration when running the KRaft controller role", name)
	}
	return nil, fmt.Errorf("%s must only contain values appearing in the 'listeners' configuration when running the KRaft controller role", name)
}

// advertisedEndpoints gives what clients are told, without the controllers.
func (c *Config) advertisedEndpoints(opened []endpoint, controllers []string, protocols map[string]string) ([]endpoint, error) {
	all := opened
	if entries := c.Strings("advertised.listeners"); entries != nil {
		var err error
		if all, err = parseEndpoints(entries, protocols, false); err != nil {
			return nil, err
		}
	}
	var told []endpoint
	for _, e := range all {
		isController := slices.Contains(controllers, e.name)
		// The address 0.0.0.0 of a controller that nobody advertises is no
		// concern: KafkaConfig leaves it out as well.
		if e.host == nowhereAddress && (!isController || c.given("advertised.listeners")) {
			return nil, problem("advertised.listeners", "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address.")
		}
		if isController {
			continue
		}
		told = append(told, e)
	}
	if len(told) == 0 {
		return nil, problem("advertised.listeners", "There must be at least one broker advertised listener. Perhaps all listeners appear in controller.listener.names?")
	}
	for _, e := range told {
		if !slices.ContainsFunc(opened, func(o endpoint) bool { return o.name == e.name }) {
			return nil, problem("advertised.listeners", "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. "+
				"Found %s. The valid options based on the current configuration are %s", names(told), names(opened))
		}
	}
	return told, nil
}

func names(endpoints []endpoint) string {
	var all []string
	for _, e := range endpoints {
		all = append(all, e.name)
	}
	return strings.Join(all, ",")
}

// checkInterBroker checks the listener that brokers would use among themselves.
// Nothing uses it on one node, so an inter-broker listener that nobody named is
// not missed.
func (c *Config) checkInterBroker(advertised []endpoint, protocols map[string]string) error {
	const byName, byProtocol = "inter.broker.listener.name", "security.inter.broker.protocol"
	if !c.given(byName) && !c.given(byProtocol) {
		return nil
	}
	wanted, written := c.Text(byProtocol), byProtocol
	if c.given(byName) {
		if c.given(byProtocol) {
			return c.at(byName, problem(byName, "Only one of %s and %s should be set.", byName, byProtocol))
		}
		wanted, written = strings.ToUpper(c.Text(byName)), byName
		if protocols[wanted] == "" {
			return c.at(byName, problem(byName, "Listener with name %s defined in %s not found in listener.security.protocol.map.", wanted, byName))
		}
	}
	if !slices.ContainsFunc(advertised, func(e endpoint) bool { return e.name == wanted }) {
		return c.at(written, problem(written, "%s must be a listener name defined in advertised.listeners. "+
			"The valid options based on currently configured listeners are %s", byName, names(advertised)))
	}
	return nil
}

func (c *Config) checkEarlyStart(opened []endpoint, controllers []string) error {
	for _, n := range c.Strings("early.start.listeners") {
		n = strings.ToUpper(n)
		if !slices.Contains(controllers, n) && !slices.ContainsFunc(opened, func(e endpoint) bool { return e.name == n }) {
			return fmt.Errorf("early.start.listeners contains listener %s, but this is not contained in listeners or controller.listener.names", n)
		}
	}
	return nil
}
