"""One mint over HTTP and websockets: what is asked, and answers parsed as hostile."""
