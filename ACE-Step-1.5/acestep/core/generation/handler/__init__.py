"""The handler's mixins, one concern a file, named as upstream names them."""
