"""The operator's page: what a station decided, what people say of it, and changes of its jobs."""
