import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main classes of Kafka's own tools, unmodified, one after the other in one JVM: see driver.go of compat for
 * the requests and answers. The one operation is run, with the arguments class and args; its answer is what the tool
 * printed on standard output and on standard error, and the code that it exited with.
 *
 * <p>Usage: Tools serve
 */
public final class Tools {
    private Tools() {
    }

    private static Integer exited; // the code of the first exit of the tool that runs

    private static final class Exited extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    public static void main(String[] args) throws Exception {
        ObjectMapper json = new ObjectMapper();
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        Exit.setExitProcedure((code, message) -> {
            exited = exited == null ? Integer.valueOf(code) : exited;
            throw new Exited(); // a tool may catch it and exit again
        });
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode request = json.readTree(line).get("args");
            ObjectNode reply = json.createObjectNode();
            try {
                reply.set("ok", run(json, request));
            } catch (Exception e) {
                e.printStackTrace();
                reply.put("error", e.toString());
            }
            out.println(json.writeValueAsString(reply));
        }
    }

    private static ObjectNode run(ObjectMapper json, JsonNode request) throws Exception {
        String[] args = json.convertValue(request.get("args"), String[].class);
        PrintStream out = System.out;
        PrintStream err = System.err;
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        ByteArrayOutputStream complained = new ByteArrayOutputStream();
        exited = null;
        System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(complained, true, StandardCharsets.UTF_8));
        try {
            Class.forName(request.get("class").asText()).getMethod("main", String[].class).invoke(null, (Object) args);
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Exited)) {
                throw e;
            }
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
        return json.createObjectNode().put("out", printed.toString(StandardCharsets.UTF_8))
            .put("err", complained.toString(StandardCharsets.UTF_8)).put("code", exited == null ? 0 : exited);
    }
}
