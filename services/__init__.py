"""The five services that the hub runs beside itself."""
