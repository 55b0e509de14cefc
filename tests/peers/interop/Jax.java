import java.net.InetSocketAddress;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import javax.jws.*;
import javax.jws.soap.SOAPBinding;
import javax.xml.namespace.QName;
import javax.xml.ws.*;
import javax.xml.ws.handler.MessageContext;
import javax.xml.ws.soap.*;

/**
 * JAX-WS RI, SOAP 1.2 and MTOM. `serve LOG`: is called by the gateway, prints `ready PORT`, logs JSON lines.
 * `call WSDL KEY NAME BASE64`: calls the gateway and prints what it got as JSON.
 */
public class Jax {
  @WebService(name = "Files", targetNamespace = "urn:jax")
  @SOAPBinding(style = SOAPBinding.Style.RPC)
  public interface Files {
    @WebMethod(action = "urn:jax/upload")
    @WebResult(name = "back")
    byte[] upload(@WebParam(name = "name") String name, @WebParam(name = "content") byte[] content);
  }

  @MTOM(threshold = 0)
  @BindingType(javax.xml.ws.soap.SOAPBinding.SOAP12HTTP_BINDING)
  @WebService(endpointInterface = "Jax$Files", serviceName = "Files", portName = "FilesPort", targetNamespace = "urn:jax")
  public static class Server implements Files {
    static Path log;
    @javax.annotation.Resource WebServiceContext context;

    public byte[] upload(String name, byte[] content) {
      if (name.startsWith("BAD")) throw new RuntimeException("没有这个文件");
      Map<String, List<String>> headers = (Map<String, List<String>>) context.getMessageContext().get(MessageContext.HTTP_REQUEST_HEADERS);
      String media = headers.getOrDefault("Content-type", List.of("")).get(0).split(";")[0];
      String line = "{\"name\":" + quoted(name) + ",\"content\":\"" + Base64.getEncoder().encodeToString(content) + "\",\"media\":" + quoted(media) + "}\n";
      try {
        java.nio.file.Files.write(log, line.getBytes(StandardCharsets.UTF_8), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
      } catch (java.io.IOException error) {
        throw new RuntimeException(error);
      }
      return content;
    }
  }

  static String quoted(String text) {
    return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
  }

  public static void main(String[] a) throws Exception {
    if (a[0].equals("serve")) {
      Server.log = Paths.get(a[1]);
      com.sun.net.httpserver.HttpServer http = com.sun.net.httpserver.HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
      http.start();
      Endpoint.create(new Server()).publish(http.createContext("/files"));
      System.out.println("ready " + http.getAddress().getPort());
      return;
    }
    Service service = Service.create(new URL(a[1]), new QName("urn:jax", "Files"));
    Files files = service.getPort(new QName("urn:jax", "FilesPort"), Files.class, new MTOMFeature(0));
    Map<String, Object> context = ((BindingProvider) files).getRequestContext();
    context.put(MessageContext.HTTP_REQUEST_HEADERS, Map.of("X-Api-Key", List.of(a[2])));
    context.put("com.sun.xml.ws.transport.http.client.streaming.chunk.size", 64);
    String out;
    try {
      byte[] back = files.upload(a[3], Base64.getDecoder().decode(a[4]));
      out = "{\"ok\":\"" + Base64.getEncoder().encodeToString(back) + "\"}";
    } catch (SOAPFaultException fault) {
      out = "{\"fault\":" + quoted(fault.getMessage()) + "}";
    }
    System.out.write((out + "\n").getBytes(StandardCharsets.UTF_8));
    System.out.flush();
  }
}
