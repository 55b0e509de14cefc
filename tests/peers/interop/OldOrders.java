import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;

/** Axis 1.4 is called by the gateway: rpc/encoded, and it answers with multiRef. Where it logs is the property `log`. */
public class OldOrders {
  public static class Line {
    private String sku;
    private int qty;
    public String getSku() { return sku; }
    public void setSku(String sku) { this.sku = sku; }
    public int getQty() { return qty; }
    public void setQty(int qty) { this.qty = qty; }
  }

  public static class Order {
    private String no;
    private String customer;
    private BigDecimal total;
    private boolean paid;
    private Line[] lines;
    public String getNo() { return no; }
    public void setNo(String no) { this.no = no; }
    public String getCustomer() { return customer; }
    public void setCustomer(String customer) { this.customer = customer; }
    public BigDecimal getTotal() { return total; }
    public void setTotal(BigDecimal total) { this.total = total; }
    public boolean isPaid() { return paid; }
    public void setPaid(boolean paid) { this.paid = paid; }
    public Line[] getLines() { return lines; }
    public void setLines(Line[] lines) { this.lines = lines; }
  }

  public Order submit(String token, Order order) throws Exception {
    StringBuilder line = new StringBuilder("{\"token\":" + quoted(token) + ",\"no\":" + quoted(order.getNo()));
    line.append(",\"customer\":" + quoted(order.getCustomer()) + ",\"total\":\"" + order.getTotal().toPlainString() + "\",\"paid\":" + order.isPaid() + ",\"lines\":[");
    String comma = "";
    for (Line one : order.getLines()) {
      line.append(comma + "{\"sku\":" + quoted(one.getSku()) + ",\"qty\":" + one.getQty() + "}");
      comma = ",";
    }
    byte[] bytes = (line + "]}\n").getBytes(StandardCharsets.UTF_8);
    Files.write(Paths.get(System.getProperty("log")), bytes, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    if (order.getNo().startsWith("BAD")) throw new IllegalArgumentException("没有这个客户");
    return order;
  }

  private static String quoted(String text) {
    return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
  }
}
