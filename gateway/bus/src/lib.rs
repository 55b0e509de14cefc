//! What carries deliveries: the Bus contract, the embedded bus and RabbitMQ.
