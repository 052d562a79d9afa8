"""What is built on Kafka and is run unchanged: Kafka Connect, Kafka Streams, MirrorMaker 2, Burrow. ecosystem.py calls these."""
