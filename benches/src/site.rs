//! The site that Gatehouse runs here: one webhook, one mapping in, one type, one mapping out, one target.

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
    put(
        "orders.yaml",
        "version: 1\nroutes:\n  - route: orders\n    from: shop/orders\n    map: order-in\n    type: order\n    key: orderNo\n    to:\n      - { target: crm/put, map: order-out, when: amount > 0 }\n",
    )?;
    Ok(())
}
