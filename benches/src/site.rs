//! The site that Gatehouse runs here: a webhook to a REST system, and a SOAP operation to a SOAP system, each with one mapping in,
//! one type, one mapping out.

use std::path::Path;

/// A body of about `size` bytes: an order with three lines and a remark that fills it up.
pub(crate) fn body(size: usize) -> String {
    let lines: Vec<_> =
        (1..=3).map(|n| format!(r#"{{"code":"SKU-{n}","title":"龙井茶 {n}","num":{n},"price":"99.90"}}"#)).collect();
    let order = |remark: &str| {
        format!(
            r#"{{"order_id":"SO-2026-112233","status":"TRADE_PAID","created":"2026-11-24 08:00:00","buyer":{{"user_id":9007199254740993,"nick":"张三","mobile":"138 0013 8000","industry":"零售"}},"pay":{{"total":"259.80","currency":"CNY"}},"items":[{}],"remark":"{remark}"}}"#,
            lines.join(",")
        )
    };
    let rest = size.saturating_sub(order("").len());
    order(&"x".repeat(rest))
}

/// The same order in an envelope of about `size` bytes.
pub(crate) fn envelope(size: usize) -> String {
    let lines: String = (1..=3)
        .map(|n| format!("<Line><Sku>SKU-{n}</Sku><Name>龙井茶 {n}</Name><Qty>{n}</Qty><Price>99.90</Price></Line>"))
        .collect();
    let order = |remark: &str| {
        format!(
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><Submit xmlns=\"urn:bench\"><No>SO-2026-112233</No>\
             <Customer>9007199254740993</Customer><Name>张三</Name><Total>259.80</Total><Created>2026-11-24T08:00:00+08:00</Created>\
             <Lines>{lines}</Lines><Remark>{remark}</Remark></Submit></s:Body></s:Envelope>"
        )
    };
    let rest = size.saturating_sub(order("").len());
    order(&"x".repeat(rest))
}

/// What the SOAP systems of this site speak.
const WSDL: &str = r#"<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:x="http://www.w3.org/2001/XMLSchema" xmlns:t="urn:bench" targetNamespace="urn:bench">
<types><x:schema targetNamespace="urn:bench" elementFormDefault="qualified">
<x:element name="Submit"><x:complexType><x:sequence><x:element name="No" type="x:string"/><x:element name="Customer" type="x:string"/>
<x:element name="Name" type="x:string"/><x:element name="Total" type="x:decimal"/><x:element name="Created" type="x:dateTime"/>
<x:element name="Lines"><x:complexType><x:sequence><x:element name="Line" maxOccurs="unbounded"><x:complexType><x:sequence>
<x:element name="Sku" type="x:string"/><x:element name="Name" type="x:string"/><x:element name="Qty" type="x:int"/><x:element name="Price" type="x:decimal"/>
</x:sequence></x:complexType></x:element></x:sequence></x:complexType></x:element>
<x:element name="Remark" type="x:string" minOccurs="0"/></x:sequence></x:complexType></x:element>
<x:element name="SubmitResponse"><x:complexType><x:sequence/></x:complexType></x:element></x:schema></types>
<message name="In"><part name="p" element="t:Submit"/></message><message name="Out"><part name="p" element="t:SubmitResponse"/></message>
<portType name="P"><operation name="Submit"><input message="t:In"/><output message="t:Out"/></operation></portType>
<binding name="B" type="t:P"><soap:binding transport="http://schemas.xmlsoap.org/soap/http"/><operation name="Submit"><soap:operation soapAction=""/><input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation></binding>
<service name="S"><port name="A" binding="t:B"><soap:address location="http://127.0.0.1/"/></port></service></definitions>"#;

/// Writes it. `url` names the broker; `None` is the embedded bus.
pub(crate) fn write(root: &Path, listen: &str, admin: &str, sink: &str, url: Option<&str>) -> anyhow::Result<()> {
    for folder in ["systems", "types", "mappings", "data"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let put = |name: &str, text: &str| std::fs::write(root.join(name), text);
    let bus =
        url.map(|_| format!("bus: {{ urls: [\"${{file:amqp.secret}}\"], prefix: bench{} }}\n", std::process::id()));
    put("amqp.secret", url.unwrap_or(""))?;
    put(
        "gatehouse.yaml",
        &format!("version: 1\nlisten: {listen}\nadmin: {{ listen: {admin} }}\n{}", bus.unwrap_or_default()),
    )?;
    put(
        "systems/shop.yaml",
        "version: 1\nsystem: shop\nadapter: rest\nlimits: { concurrency: 1000 }\nendpoints:\n  orders: { receive: POST /hooks/orders }\n",
    )?;
    put(
        "systems/crm.yaml",
        &format!(
            "version: 1\nsystem: crm\nadapter: rest\naddress: http://{sink}\nlimits: {{ concurrency: 256 }}\nendpoints:\n  put: {{ call: POST / }}\n"
        ),
    )?;
    put(
        "types/order.schema.json",
        r#"{"type":"object","properties":{"orderNo":{"type":"string","minLength":1},"status":{"enum":["paid","pending"]},
        "customer":{"type":"object","properties":{"no":{"type":"string"},"name":{"type":"string"},"phone":{"type":"string"},"industry":{"type":"string"}},"required":["no"]},
        "amount":{"type":"number"},"createdAt":{"type":"string"},"remark":{"type":"string"},
        "lines":{"type":"array","minItems":1,"items":{"type":"object","properties":{"sku":{"type":"string"},"name":{"type":"string"},"qty":{"type":"number"},"price":{"type":"number"}},"required":["sku","qty"]}}},
        "required":["orderNo","status","customer","amount","lines"],"additionalProperties":false}"#,
    )?;
    put(
        "mappings/order-in.yaml",
        r#"version: 1
mapping: order-in
to: order
rows:
  - { to: orderNo, from: order_id, type: string, required: true }
  - { to: status, from: status, values: { TRADE_PAID: paid, WAIT_PAY: pending } }
  - { to: customer.no, from: buyer.user_id, type: string, required: true }
  - { to: customer.name, from: buyer.nick, clean: [trim] }
  - { to: customer.phone, from: buyer.mobile, clean: [trim, phone_cn] }
  - { to: customer.industry, from: buyer.industry, default: 其他 }
  - { to: amount, from: pay.total, type: decimal(2) }
  - { to: createdAt, from: created, type: datetime, format: "%Y-%m-%d %H:%M:%S", zone: Asia/Shanghai }
  - { to: "lines[].sku", from: "items[].code", type: string, required: true }
  - { to: "lines[].name", from: "items[].title" }
  - { to: "lines[].qty", from: "items[].num", type: decimal }
  - { to: "lines[].price", from: "items[].price", type: decimal }
  - { to: remark, from: remark }
"#,
    )?;
    put(
        "mappings/order-out.yaml",
        r#"version: 1
mapping: order-out
rows:
  - { to: no, from: orderNo }
  - { to: customer, from: customer.no }
  - { to: name, from: customer.name }
  - { to: phone, from: customer.phone }
  - { to: total, from: amount }
  - { to: at, from: createdAt }
  - { to: "items[].sku", from: "lines[].sku" }
  - { to: "items[].qty", from: "lines[].qty" }
  - { to: remark, from: remark }
"#,
    )?;
    std::fs::create_dir_all(root.join("wsdl"))?;
    put("wsdl/orders.wsdl", WSDL)?;
    put(
        "systems/oa.yaml",
        "version: 1\nsystem: oa\nadapter: soap\nwsdl: wsdl/orders.wsdl\nlimits: { concurrency: 1000 }\nendpoints:\n  Submit: { listen: /soap/orders }\n",
    )?;
    // The sink says nothing: an empty 200 is its yes.
    put(
        "systems/erp.yaml",
        &format!(
            "version: 1\nsystem: erp\nadapter: soap\nwsdl: wsdl/orders.wsdl\naddress: http://{sink}\nlimits: {{ concurrency: 256 }}\nendpoints:\n  Submit: {{ one_way: true }}\n"
        ),
    )?;
    put(
        "mappings/soap-in.yaml",
        r#"version: 1
mapping: soap-in
to: order
rows:
  - { to: orderNo, from: No, required: true }
  - { to: status, default: paid }
  - { to: customer.no, from: Customer, required: true }
  - { to: customer.name, from: Name, clean: [trim] }
  - { to: amount, from: Total }
  - { to: createdAt, from: Created }
  - { to: "lines[].sku", from: "Lines.Line[].Sku", required: true }
  - { to: "lines[].name", from: "Lines.Line[].Name" }
  - { to: "lines[].qty", from: "Lines.Line[].Qty" }
  - { to: "lines[].price", from: "Lines.Line[].Price" }
  - { to: remark, from: Remark }
"#,
    )?;
    put(
        "mappings/soap-out.yaml",
        r#"version: 1
mapping: soap-out
rows:
  - { to: No, from: orderNo }
  - { to: Customer, from: customer.no }
  - { to: Name, from: customer.name }
  - { to: Total, from: amount }
  - { to: Created, from: createdAt }
  - { to: "Lines.Line[].Sku", from: "lines[].sku" }
  - { to: "Lines.Line[].Name", from: "lines[].name" }
  - { to: "Lines.Line[].Qty", from: "lines[].qty" }
  - { to: "Lines.Line[].Price", from: "lines[].price" }
  - { to: Remark, from: remark }
"#,
    )?;
    put(
        "soap.yaml",
        "version: 1\nroutes:\n  - route: soap\n    from: oa/Submit\n    map: soap-in\n    type: order\n    key: orderNo\n    to:\n      - { target: erp/Submit, map: soap-out, when: amount > 0 }\n",
    )?;
    put(
        "orders.yaml",
        "version: 1\nroutes:\n  - route: orders\n    from: shop/orders\n    map: order-in\n    type: order\n    key: orderNo\n    to:\n      - { target: crm/put, map: order-out, when: amount > 0 }\n",
    )?;
    Ok(())
}
