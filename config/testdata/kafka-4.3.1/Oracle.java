import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import kafka.server.ConfigHelper;
import kafka.server.ControllerConfigurationValidator;
import kafka.server.KafkaConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.message.DescribeConfigsRequestData.DescribeConfigsResource;
import org.apache.kafka.common.message.DescribeConfigsResponseData.DescribeConfigsResult;
import org.apache.kafka.metadata.MetadataCache;
import org.apache.kafka.server.config.DynamicBrokerConfig;
import org.apache.kafka.server.metrics.ClientMetricsConfigs;
import org.apache.kafka.storage.internals.log.LogConfig;

/** Asks Kafka's own classes what they make of settings. See README.md. */
public class Oracle {
    static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        if (args.length == 1 && args[0].equals("table")) {
            table("broker", KafkaConfig.configDef(), DynamicBrokerConfig.dynamicConfigUpdateModes());
            table("topic", LogConfig.configDefCopy(), Map.of());
            table("group", org.apache.kafka.coordinator.group.GroupConfig.CONFIG_DEF, Map.of());
            table("client-metrics", ClientMetricsConfigs.configDef(), Map.of());
            return;
        }
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode ask = JSON.readTree(line);
            ObjectNode out = JSON.createObjectNode();
            out.set("in", ask);
            try {
                answer(ask, out);
                out.put("error", (String) null);
            } catch (Throwable t) {
                out.put("error", t.getClass().getSimpleName() + ": " + t.getMessage());
            }
            System.out.println(JSON.writeValueAsString(out));
        }
    }

    static void table(String scope, ConfigDef def, Map<String, String> modes) throws Exception {
        for (ConfigDef.ConfigKey k : def.configKeys().values()) {
            ObjectNode row = JSON.createObjectNode();
            row.put("scope", scope).put("name", k.name).put("type", k.type.toString()).put("required", !k.hasDefault());
            row.put("default", k.hasDefault() ? ConfigDef.convertToString(k.defaultValue, k.type) : null);
            row.put("validator", k.validator == null ? null : k.validator.toString());
            row.put("internal", k.internalConfig).put("mode", modes.get(k.name));
            System.out.println(JSON.writeValueAsString(row));
        }
    }

    static void answer(JsonNode ask, ObjectNode out) throws Throwable {
        KafkaConfig config = KafkaConfig.fromProps(base(ask.get("static")), false);
        if (ask.get("op").asText().equals("start")) return;
        config.dynamicConfig().initialize(scala.Option.empty());
        if (ask.has("dynamicDefault")) config.dynamicConfig().updateDefaultConfig(properties(ask.get("dynamicDefault")), false);
        if (ask.has("dynamicBroker")) config.dynamicConfig().updateBrokerConfig(1, properties(ask.get("dynamicBroker")), false);
        ConfigResource.Type type = ConfigResource.Type.valueOf(ask.get("type").asText());
        String name = ask.get("name").asText();
        switch (ask.get("op").asText()) {
            case "validate":
                new ControllerConfigurationValidator(config).validate(new ConfigResource(type, name), map(ask.get("configs")), Map.of());
                return;
            case "validateBroker":
                DynamicBrokerConfig.validateConfigs(properties(ask.get("configs")), !name.isEmpty());
                return;
            default:
                describe(config, type, name, ask, out);
        }
    }

    static void describe(KafkaConfig config, ConfigResource.Type type, String name, JsonNode ask, ObjectNode out) {
        MetadataCache cache = (MetadataCache) Proxy.newProxyInstance(Oracle.class.getClassLoader(), new Class<?>[] {MetadataCache.class},
            (p, m, a) -> m.getName().equals("contains") ? (Object) true : m.isDefault() ? InvocationHandler.invokeDefault(p, m, a) : null);
        Properties overrides = properties(ask.get("configs"));
        DescribeConfigsResource resource = new DescribeConfigsResource().setResourceType(type.id()).setResourceName(name).setConfigurationKeys(null);
        if (ask.has("keys")) {
            List<String> keys = new ArrayList<>();
            ask.get("keys").forEach(k -> keys.add(k.asText()));
            resource.setConfigurationKeys(keys);
        }
        ConfigHelper helper = new ConfigHelper(cache, config, r -> overrides);
        DescribeConfigsResult result = helper.describeConfigs(
            scala.jdk.javaapi.CollectionConverters.asScala(List.of(resource)).toList(), true, false).head();
        out.put("code", result.errorCode()).put("message", result.errorMessage());
        ArrayNode entries = out.putArray("entries");
        result.configs().forEach(e -> {
            ObjectNode o = entries.addObject().put("name", e.name()).put("value", e.value()).put("readOnly", e.readOnly());
            o.put("source", e.configSource()).put("sensitive", e.isSensitive()).put("type", e.configType());
            ArrayNode synonyms = o.putArray("synonyms");
            e.synonyms().forEach(s -> synonyms.addArray().add(s.name()).add(s.value()).add(s.source()));
        });
    }

    /** A combined node that starts; null in the settings takes one of its own away. */
    static Properties base(JsonNode settings) {
        Properties p = new Properties();
        p.setProperty("process.roles", "broker,controller");
        p.setProperty("node.id", "1");
        p.setProperty("controller.listener.names", "CONTROLLER");
        p.setProperty("controller.quorum.voters", "1@localhost:9093");
        p.setProperty("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093");
        p.setProperty("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT");
        p.setProperty("advertised.listeners", "PLAINTEXT://localhost:9092");
        p.setProperty("log.dirs", "/tmp/x");
        map(settings).forEach((k, v) -> {
            if (v == null) p.remove(k);
            else p.setProperty(k, v);
        });
        return p;
    }

    static Properties properties(JsonNode node) {
        Properties p = new Properties();
        p.putAll(map(node));
        return p;
    }

    static Map<String, String> map(JsonNode node) {
        Map<String, String> m = new LinkedHashMap<>();
        if (node != null) node.fields().forEachRemaining(e -> m.put(e.getKey(), e.getValue().isNull() ? null : e.getValue().asText()));
        return m;
    }
}
