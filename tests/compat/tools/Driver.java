import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;
import org.apache.kafka.common.utils.internals.Exit;
import org.slf4j.LoggerFactory;

/**
 * Runs Apache Kafka's command-line tools, all in this one JVM: a start of one for each call would take most of the time.
 *
 * Reads a request a line from stdin and answers each with a line on stdout, in the order in which they end:
 * {"id":1,"main":"org.apache.kafka.tools.TopicCommand","args":["--list",...],"stdin":"","timeout_s":30}
 * gives {"id":1,"exit":0,"out":"...","err":"..."}. Requests run side by side, each in a thread of its own, whose children
 * inherit where it prints to. A main class of "member", "transaction" or "walk" is no tool: see these. Exit code -1: it did not end in time.
 */
public final class Driver {
    /** What one call reads and prints. */
    static final class Console {
        final ByteArrayOutputStream out = new ByteArrayOutputStream();
        final ByteArrayOutputStream err = new ByteArrayOutputStream();
        final InputStream in;

        Console(String text) {
            in = new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8));
        }
    }

    /** Thrown where a tool ends its JVM. */
    static final class Ended extends Error {
        private static final long serialVersionUID = 1L;
        final int code;

        Ended(int code) {
            super("exit " + code, null, false, false);
            this.code = code;
        }
    }

    private static final InheritableThreadLocal<Console> CONSOLE = new InheritableThreadLocal<>();
    private static final Map<Console, Integer> EXIT_CODES = new ConcurrentHashMap<>();
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        // Else the first two calls fight over who starts it, and print so.
        LoggerFactory.getLogger(Driver.class);
        PrintStream answers = System.out;
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setOut(new PrintStream(new Routed(true), true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(new Routed(false), true, StandardCharsets.UTF_8));
        System.setIn(new RoutedInput());
        Exit.setExitProcedure(Driver::end);
        Exit.setHaltProcedure(Driver::end);
        Exit.setShutdownHookAdder((name, runnable) -> { });
        List<Thread> running = new ArrayList<>();
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            JsonNode request = JSON.readTree(line);
            Thread thread = new Thread(() -> answer(request, answers));
            thread.setDaemon(true);
            thread.start();
            running.add(thread);
        }
        for (Thread thread : running) {
            thread.join();
        }
        Members.closeAll();
        Transactions.closeAll();
        answers.flush();
        Runtime.getRuntime().halt(0);
    }

    private static void end(int code, String message) {
        Console console = CONSOLE.get();
        if (message != null && console != null) {
            System.err.println(message);
        }
        if (console != null) {
            // A tool may catch what is thrown here and go on to another exit: the first one counts.
            EXIT_CODES.putIfAbsent(console, code);
        }
        throw new Ended(code);
    }

    private static void answer(JsonNode request, PrintStream answers) {
        List<String> arguments = new ArrayList<>();
        request.get("args").forEach(argument -> arguments.add(argument.asText()));
        Console console = new Console(request.path("stdin").asText(""));
        int[] code = {-1};
        Thread worker = new Thread(() -> {
            CONSOLE.set(console);
            code[0] = run(request.get("main").asText(), arguments.toArray(new String[0]));
        });
        worker.setDaemon(true);
        worker.start();
        try {
            worker.join(1000L * request.path("timeout_s").asInt(60));
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
        Integer exit = EXIT_CODES.remove(console);
        ObjectNode answer = JSON.createObjectNode();
        answer.put("id", request.get("id").asInt());
        answer.put("exit", worker.isAlive() || exit == null ? code[0] : exit);
        answer.put("out", console.out.toString(StandardCharsets.UTF_8));
        answer.put("err", console.err.toString(StandardCharsets.UTF_8));
        synchronized (answers) {
            answers.println(answer);
        }
    }

    private static int run(String name, String[] arguments) {
        try {
            switch (name) {
                case "member" -> Members.main(arguments);
                case "transaction" -> Transactions.main(arguments);
                case "walk" -> Walk.main(arguments);
                default -> new ToolLoader().loadClass(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
            }
            return 0;
        } catch (InvocationTargetException thrown) {
            if (thrown.getCause() instanceof Ended ended) {
                return ended.code;
            }
            thrown.getCause().printStackTrace();
            return 1;
        } catch (Ended ended) {
            return ended.code;
        } catch (Throwable thrown) {
            thrown.printStackTrace();
            return 1;
        }
    }

    /** Loads the tools anew for each call: some count in static fields. */
    private static final class ToolLoader extends URLClassLoader {
        private static final String TOOLS = "org.apache.kafka.tools.";

        ToolLoader() {
            super(toolJars(), Driver.class.getClassLoader());
        }

        private static URL[] toolJars() {
            return Stream.of(System.getProperty("java.class.path").split(File.pathSeparator))
                .filter(path -> path.contains("kafka-tools-"))
                .map(path -> {
                    try {
                        return new File(path).toURI().toURL();
                    } catch (MalformedURLException impossible) {
                        throw new AssertionError(impossible);
                    }
                })
                .toArray(URL[]::new);
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            synchronized (getClassLoadingLock(name)) {
                Class<?> loaded = name.startsWith(TOOLS) ? findLoadedClass(name) : super.loadClass(name, resolve);
                return loaded == null ? findClass(name) : loaded;
            }
        }
    }

    private static final class Routed extends OutputStream {
        private final boolean isOut;

        Routed(boolean isOut) {
            this.isOut = isOut;
        }

        @Override
        public void write(int one) {
            write(new byte[] {(byte) one}, 0, 1);
        }

        @Override
        public void write(byte[] bytes, int start, int count) {
            Console console = CONSOLE.get();
            if (console != null) {
                (isOut ? console.out : console.err).write(bytes, start, count);
            }
        }
    }

    private static final class RoutedInput extends InputStream {
        @Override
        public int read() {
            byte[] one = new byte[1];
            return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
        }

        @Override
        public int read(byte[] bytes, int start, int count) {
            Console console = CONSOLE.get();
            try {
                return console == null ? -1 : console.in.read(bytes, start, count);
            } catch (java.io.IOException impossible) {
                throw new AssertionError(impossible);
            }
        }
    }

    private Driver() { }
}
